"""`evaluate.split`: every stage that measures reads the images of that split, and of no other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from src.core import paths
from src.core.params import Params
from src.data.dataset import DatasetFile
from src.data.prepared import PreparedFile
from src.evaluation.analysis import read_analyses
from src.structures.sample import SPLITS
from stages.anchors import __main__ as anchors
from stages.detect import __main__ as detect
from stages.evaluate import __main__ as evaluate
from stages.evaluate_backbone import __main__ as evaluate_backbone
from stages.evaluate_rpn import __main__ as evaluate_rpn
from stages.features import __main__ as features
from stages.joint import __main__ as joint
from stages.rpn import __main__ as rpn
from tests.factories import make_prepared
from tests.reporting.runs import METRICS, write_metrics
from tests.stages.workspace import make_workspace, read, save_parts, save_rival, tiny_params

MEASURING = {
    "evaluate_rpn": evaluate_rpn.main,
    "evaluate_backbone": evaluate_backbone.main,
    "detect": detect.main,
    "evaluate": evaluate.main,
}
ROWS = {"train": [0, 1, 3, 4, 6], "validation": [2, 5, 7], "test": [8, 9]}


def params(split: str) -> Params:
    whole = tiny_params()
    return dataclasses.replace(
        whole,
        data=dataclasses.replace(whole.data, validation_fraction=0.4),
        rpn=dataclasses.replace(whole.rpn, epochs=1),
        joint=dataclasses.replace(whole.joint, scheme="none"),
        evaluate=dataclasses.replace(whole.evaluate, split=split),
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Trained as far as measuring needs it."""
    prepared = make_prepared(tmp_path_factory.mktemp("prepared"), images=10, validation=ROWS["validation"])
    with pytest.MonkeyPatch.context() as patch:
        folder = make_workspace(tmp_path_factory.mktemp("workspace"), patch, prepared, prepared.with_name("dataset.h5"))
        save_parts(params("test"))
        for main in (anchors.main, rpn.main, joint.main):
            main(params("test"))
        save_rival(params("test"))
        write_metrics(folder, {"ingest": METRICS["ingest"]})
        yield folder


def noting(read: Callable[[Any, int], Any], rows: set[int]) -> Callable[[Any, int], Any]:
    """The same reading, which notes the rows that are asked for."""

    def noted(self: Any, index: int) -> Any:
        rows.add(index)
        return read(self, index)

    return noted


@pytest.fixture(scope="module", params=["validation", "test"])
def measured(request: pytest.FixtureRequest, workspace: Path) -> tuple[str, dict[str, set[int]]]:
    """A split, and the rows of what each stage reads of pictures and their masks when it measures that split."""
    seen: dict[str, set[int]] = {}
    readers = [(PreparedFile, "image"), (DatasetFile, "image"), (DatasetFile, "masks")]
    for stage, main in MEASURING.items():
        seen[stage] = set()
        with pytest.MonkeyPatch.context() as patch:
            for kind, name in readers:
                patch.setattr(kind, name, noting(getattr(kind, name), seen[stage]))
            main(params(request.param))
    return request.param, seen


def test_the_workspace_has_all_splits(workspace: Path) -> None:
    with PreparedFile(workspace / paths.PREPARED) as prepared:
        assert {split: prepared.indices(split) for split in SPLITS} == ROWS


@pytest.mark.parametrize("stage", MEASURING)
def test_all_images_of_the_split_are_read_and_no_others(measured: tuple[str, dict[str, set[int]]], stage: str) -> None:
    split, seen = measured
    assert seen[stage] == set(ROWS[split])


def test_what_is_written_is_of_the_split(measured: tuple[str, dict[str, set[int]]], workspace: Path) -> None:
    split, _ = measured
    names = [f"{row:06d}" for row in ROWS[split]]
    assert [one.name for one in read_analyses(workspace / paths.DETECTIONS)] == names
    assert [image["file_name"] for image in read(workspace / paths.GROUND_TRUTH)["images"]] == names
    facts = read(workspace / "metrics/evaluate.json")
    assert (facts["split"], facts["images"]) == (split, len(names))
    found = read(workspace / "metrics/provenance.json")
    assert (found["measured_on"], found["measured_images"]) == (split, len(names))
    assert read(workspace / "metrics/rpn.json")["conditions"]["test_images"] == len(names)
    assert read(workspace / "metrics/backbone.json")["example"] in names


def test_heads_have_cached_features_of_training_and_test_images_alone(workspace: Path) -> None:
    features.main(params("test"))
    assert read(workspace / "metrics/features.json")["images"] == len(ROWS["train"]) + len(ROWS["test"])

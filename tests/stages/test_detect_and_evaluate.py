"""Stages `detect` and `evaluate` with a random detector: what each writes, and that `evaluate` runs no network."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from src.core import paths
from src.core.errors import InputError
from src.core.files import read_json
from src.core.params import Params
from src.data.dataset import DatasetFile
from src.evaluation import detection, results
from src.evaluation.analysis import read_analyses, read_detections, write_analyses
from src.evaluation.instances import GroundTruth, coco_results
from src.structures.detector import DETECTORS
from stages.detect import __main__ as detect
from stages.evaluate import __main__ as evaluate
from stages.joint import __main__ as joint
from tests.detector.small import evaluate_params
from tests.evaluation.test_results import KEYS, counted
from tests.factories import make_prepared
from tests.reporting.runs import METRICS, write_metrics
from tests.stages.workspace import make_workspace, save_parts, save_rival, tiny_params, written_by

FIGURES = (
    *("before_after", "confusion", "detections", "detectors", "funnel", "halves", "precision_recall", "unannotated"),
)


def params(border: str = "clip") -> Params:
    whole = tiny_params()
    return dataclasses.replace(
        whole,
        joint=dataclasses.replace(whole.joint, scheme="none"),
        evaluate=evaluate_params(border=border, score_threshold=0.1),
        report=dataclasses.replace(whole.report, images=1),
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which both stages run once for the whole module: 8 pictures to train on, 2 to test on."""
    prepared = make_prepared(tmp_path_factory.mktemp("prepared"), images=10)
    with pytest.MonkeyPatch.context() as patch:
        folder = make_workspace(tmp_path_factory.mktemp("workspace"), patch, prepared, prepared.with_name("dataset.h5"))
        save_parts(params())
        joint.main(params())
        save_rival(params())
        for parts in (paths.BACKBONE, paths.MASK_HEAD):
            parts.unlink()  # the whole detector is in a file of its own
        write_metrics(folder, {name: METRICS[name] for name in ("ingest", "rpn", "backbone")})
        yield folder


@pytest.fixture(scope="module")
def detected(workspace: Path) -> dict[str, bytes]:
    return written_by(detect.main, params(), workspace)


@pytest.fixture(scope="module")
def evaluated(workspace: Path, detected: dict[str, bytes]) -> dict[str, bytes]:
    return written_by(evaluate.main, params(), workspace)


def no_network(*arguments: Any, **options: Any) -> None:
    raise AssertionError("a network ran")


def test_detect_writes_what_was_found_also_in_coco_s_formats(workspace: Path, detected: dict[str, bytes]) -> None:
    names = (
        "detections.jsonl",
        "ground_truth.json",
        "one_stage.jsonl",
        "one_stage_predictions.json",
        "predictions.json",
    )
    assert list(detected) == [f"data/{name}" for name in names]
    analyses = list(read_analyses(workspace / paths.DETECTIONS))
    with DatasetFile(workspace / paths.DATASET) as dataset:
        rows = dataset.indices("test")
        truth = [GroundTruth.from_dataset(dataset, row, number) for number, row in enumerate(rows, start=1)]
    assert [one.name for one in analyses] == [one.name for one in truth] == ["000008", "000009"]
    assert all(0 < len(one.proposals) <= 24 for one in analyses)
    assert sum(len(one.found["clip"]) for one in analyses) > 0
    found = json.loads(detected["data/predictions.json"])
    assert found == coco_results(truth, [one.found["clip"] for one in analyses])
    assert {entry["image_id"] for entry in found} <= {1, 2}
    known = json.loads(detected["data/ground_truth.json"])
    assert [image["file_name"] for image in known["images"]] == ["000008", "000009"]
    assert len(known["annotations"]) == sum(len(one.boxes) for one in truth)
    assert all(entry["segmentation"]["size"] == [300, 400] for entry in found)  # the picture's own pixels


def test_the_one_stage_detector_s_detections_are_boxes_of_the_same_images(
    workspace: Path, detected: dict[str, bytes]
) -> None:
    found = list(read_detections(workspace / paths.ONE_STAGE_DETECTIONS))
    assert [one.name for one in found] == [one.name for one in read_analyses(workspace / paths.DETECTIONS)]
    assert all(len(one.found) > 0 and one.found.masks is None for one in found)
    entries = json.loads(detected["data/one_stage_predictions.json"])
    assert len(entries) == sum(len(one.found) for one in found)
    assert not any("segmentation" in entry for entry in entries)
    right = torch.cat([one.found.boxes for one in found]).amax(dim=0)
    assert (right <= torch.tensor([400.0, 300.0, 400.0, 300.0]) + 1e-3).all()  # the picture's own pixels


def test_each_detector_is_timed_where_no_stage_looks(workspace: Path, detected: dict[str, bytes]) -> None:
    for name in DETECTORS:
        assert read_json(workspace / f".cache/seconds/an_image/{name}.json") > 0


def test_both_detectors_are_measured_on_the_same_images(workspace: Path, evaluated: dict[str, bytes]) -> None:
    whole, both = (json.loads(evaluated[f"metrics/{name}.json"]) for name in ("evaluate", "detectors"))
    two, one = (both["detectors"][name] for name in DETECTORS)
    for measure in ("ap", "ap50", "ap75"):
        assert two[measure] == whole[f"box_{measure}"]
        assert both["differences"]["all"][measure]["estimate"] == pytest.approx(two[measure] - one[measure], abs=1e-9)
    assert sum(both["objects"].values()) == sum(two["errors"][kind] for kind in ("correct",)) + (
        both["objects"]["one_stage_only"] + both["objects"]["neither"]
    )


def test_coco_s_format_has_the_chosen_border_rule(workspace: Path, detected: dict[str, bytes]) -> None:
    detect.main(params("remove"))
    analyses = list(read_analyses(workspace / paths.DETECTIONS))
    removed = json.loads((workspace / paths.PREDICTIONS).read_text())
    assert len(removed) == sum(len(one.found["remove"]) for one in analyses)
    assert len(removed) < len(json.loads(detected["data/predictions.json"]))
    assert (workspace / paths.DETECTIONS).read_bytes() == detected["data/detections.jsonl"]  # it has both rules
    detect.main(params())
    assert {name: (workspace / name).read_bytes() for name in detected} == detected


def test_evaluate_writes_numbers_tables_and_figures(workspace: Path, evaluated: dict[str, bytes]) -> None:
    figures = {f"plots/evaluate/{name}.png" for name in FIGURES}
    tables = {f"plots/evaluate/{name}.csv" for name in ("confusion", "funnel", "precision_recall")}
    numbers = {f"metrics/{name}.json" for name in ("evaluate", "summary", "provenance", "detectors")}
    assert set(evaluated) == {*numbers, *tables, *figures, paths.EXPLORER.as_posix()}
    assert all(len(evaluated[name]) > 1000 for name in figures)
    facts = json.loads(evaluated["metrics/evaluate.json"])
    assert tuple(facts) == (*KEYS, "conditions")
    assert (facts["split"], facts["images"], facts["proposals"]) == ("test", 2, 24)
    summary, provenance = (json.loads(evaluated[f"metrics/{name}.json"]) for name in ("summary", "provenance"))
    assert (summary["box_ap50"], summary["rpn_accuracy"]) == (facts["box_ap50"], METRICS["rpn"]["balanced_accuracy"])
    assert (provenance["source"], provenance["precision"]) == ("emoji", facts["conditions"]["precision"])
    assert not {"seconds", "commit"} & {*summary, *provenance}
    confusion = pd.read_csv(io.BytesIO(evaluated["plots/evaluate/confusion.csv"]))
    assert confusion.columns.tolist() == ["actual", "predicted"]
    proposals = sum(int((one.truth >= 0).sum()) for one in read_analyses(workspace / paths.DETECTIONS))
    assert len(confusion) == np.sum(facts["classifier"]["confusion"]) == proposals
    curve = pd.read_csv(io.BytesIO(evaluated["plots/evaluate/precision_recall.csv"]))
    assert curve.columns.tolist() == ["class", "recall", "precision"]


def test_the_explorer_s_file_counts_as_the_metrics_do(workspace: Path, evaluated: dict[str, bytes]) -> None:
    tree, facts = (json.loads(evaluated[name]) for name in (paths.EXPLORER.as_posix(), "metrics/evaluate.json"))
    assert [one["name"] for one in tree["pictures"]] == ["000008", "000009"]
    assert tree["threshold"] == params().predict.score_threshold
    found = [one for picture in tree["pictures"] for one in picture["detections"]]
    assert len(found) == facts["detections"]
    kinds = [one["kind"] for one in found if one["score"] >= tree["threshold"]]
    expected = {kind: number for kind, number in facts["errors"].items() if kind != "missed"}
    assert {kind: kinds.count(kind) for kind in expected} == expected
    objects = [one for picture in tree["pictures"] for one in picture["objects"]]
    assert sum("lost" in one for one in objects) == facts["funnel"]["objects"]
    assert all(one["picture"].startswith("data:image/webp;base64,") for one in tree["pictures"])


def test_evaluate_counts_once_and_runs_no_network(
    workspace: Path, evaluated: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.Module, "__call__", no_network)
    runs = counted(monkeypatch, detection, "COCOeval_faster")
    picks = counted(monkeypatch, results, "find_unannotated")
    evaluate.main(params())
    assert len(runs) == 5  # boxes and masks under each border rule, and the one-stage detector's boxes
    assert len(picks) == 1
    assert {name: (workspace / name).read_bytes() for name in evaluated} == evaluated


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (lambda whole: whole[:-100], "a file that stage `detect` wrote"),
        (lambda whole: whole.splitlines(keepends=True)[0], "a line for each of 2 test images, found 1"),
        (lambda whole: b"", "a line for each of 2 test images, found 0"),
    ],
)
def test_detections_of_another_making_are_refused_before_anything_is_written(
    workspace: Path, evaluated: dict[str, bytes], left: Callable[[bytes], bytes], expected: str
) -> None:
    path = workspace / paths.DETECTIONS
    whole = path.read_bytes()
    try:
        path.write_bytes(left(whole))
        with pytest.raises(InputError, match=rf"data/detections\.jsonl: expected {expected}"):
            evaluate.main(params())
    finally:
        path.write_bytes(whole)
    assert {name: (workspace / name).read_bytes() for name in evaluated} == evaluated


def test_a_split_on_which_nothing_is_found(
    workspace: Path, evaluated: dict[str, bytes], detected: dict[str, bytes]
) -> None:
    """AP is 0, every figure is drawn all the same."""
    path = workspace / paths.DETECTIONS
    nothing = [
        dataclasses.replace(one, found={rule: found.keep(found.scores > 2) for rule, found in one.found.items()})
        for one in read_analyses(path)
    ]
    try:
        write_analyses(path, nothing)
        evaluate.main(params())
        facts = json.loads((workspace / "metrics/evaluate.json").read_text())
        assert (facts["box_ap"], facts["mask_ap"], facts["detections"], facts["unannotated"]) == (0, 0, 0, None)
        assert all((workspace / f"plots/evaluate/{name}.png").stat().st_size > 1000 for name in FIGURES)
    finally:
        path.write_bytes(detected["data/detections.jsonl"])

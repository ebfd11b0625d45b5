"""The two data stages, run in a folder of their own on tiny sets of each format."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.core.data_params import EmojiParams
from src.core.files import read_json
from src.core.params_file import load_params
from src.data.dataset import DatasetFile
from src.data.prepared import PreparedFile
from src.sources.assignment import CLASSES
from src.structures.sample import SPLITS
from stages.ingest import __main__ as ingest
from stages.prepare import __main__ as prepare
from tests.factories import SMALL, data_params, make_coco, make_course

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")


@pytest.mark.parametrize(("make", "source"), [(make_course, "course"), (make_coco, "coco")])
def test_from_files_to_the_prepared_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    make(tmp_path / "input", 10, 3)
    params = dataclasses.replace(PARAMS, data=data_params(source, "input"), prepare=SMALL)
    ingest.main(params)
    prepare.main(params)
    facts = read_json(Path("metrics/ingest.json"))
    assert (facts["source"], facts["images"]) == (source, 10)
    assert [facts[f"{split}_images"] for split in ("train", "test", "validation")] == [8, 2, 0]
    assert facts["objects"] == sum(sum(split.values()) for split in facts["split"].values())
    assert facts["objects"] == sum(int(number) * count for number, count in facts["objects_per_image"].items())
    assert facts["crowd_objects"] == (source == "coco")
    numbers = read_json(Path("metrics/prepare.json"))
    assert [numbers[key] for key in ("height", "width", "padded_width", "left", "right")] == [96, 128, 160, 16, 16]
    assert -2.2 < numbers["minimum"] < 0 < numbers["maximum"] < 2.7
    assert len(numbers["example"]["labels"]) == len(numbers["example"]["boxes"]) > 0
    with PreparedFile(Path("data/prepared.h5")) as prepared:
        assert len(prepared) == 10
    for path in (Path("plots/ingest/samples.png"), Path("plots/prepare/two_objects.png")):
        assert np.asarray(Image.open(path)).std() > 10


@pytest.mark.parametrize("source", ["emoji", "course"])
def test_the_validation_part_is_counted_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    make_course(tmp_path / "input", 10, 3)
    counted = {}
    for fraction in (0.0, 0.5):
        data = data_params(source, "input", validation_fraction=fraction, emoji=EmojiParams(8, 2, 0.0, 1))
        ingest.main(dataclasses.replace(PARAMS, data=data))
        facts = counted[fraction] = read_json(Path("metrics/ingest.json"))
        with DatasetFile(Path("data/dataset.h5")) as dataset:
            for split in SPLITS:
                rows = dataset.indices(split)
                assert facts[f"{split}_images"] == len(rows)
                labels = [int(label) for row in rows for label in dataset.labels(row)]
                assert {name: facts["split"][name][split] for name in CLASSES.names} == {
                    name: labels.count(label) for name, label in CLASSES.items()
                }
    without, with_part = counted.values()
    assert [with_part[f"{split}_images"] for split in SPLITS] == [4, 2, 4]
    assert with_part["objects"] == without["objects"]
    for name in CLASSES.names:
        before, after = without["split"][name], with_part["split"][name]
        assert before["validation"] == 0
        assert after["test"] == before["test"]
        assert after["train"] + after["validation"] == before["train"]

"""The two data stages, run in a folder of their own on tiny sets of each format."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.core.files import read_json
from src.core.params_file import load_params
from src.data.prepared import PreparedFile
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
    assert (facts["source"], facts["images"], facts["train_images"], facts["test_images"]) == (source, 10, 8, 2)
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

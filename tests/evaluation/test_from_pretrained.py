"""The trained detector in a notebook: in three lines, from any working directory."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src.core.errors import InputError
from src.core.params_file import load_params
from src.evaluation.instances import Instances
from src.evaluation.predictor import Predictor
from tests.factories import make_samples
from tests.structure.project import PROJECT
from tests.tools.export.project import write_project

PAGE = PROJECT / "docs" / "export.md"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and a picture in its folder."""
    folder = write_project(tmp_path_factory.mktemp("project"))
    (folder / "pictures").mkdir()
    Image.fromarray(make_samples(1)[0].image).save(folder / "pictures/scene.png")
    return folder


def assert_same(found: Instances, other: Instances) -> None:
    assert len(found) > 3
    for name in ("boxes", "labels", "scores"):
        assert torch.equal(getattr(found, name), getattr(other, name)), name
    assert found.masks == other.masks


def test_the_page_s_lines_do_what_make_predict_does(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) == 3
    monkeypatch.chdir(project)
    names: dict[str, Any] = {}
    exec(code, names)
    expected = Predictor.load(load_params()).predict(make_samples(1)[0].image)
    assert_same(names["found"], expected)


def test_from_anywhere(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    predictor = Predictor.from_pretrained(project)
    assert predictor.classes.names == ("vehicle", "person", "animal")
    picture = project / "pictures/scene.png"
    assert_same(predictor.predict_file(picture), Predictor.from_pretrained(str(project)).predict_file(str(picture)))


def test_files_are_seen_upright(project: Path, tmp_path: Path) -> None:
    pixels, exif = make_samples(1)[0].image, Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "turned.png", exif=exif)
    predictor = Predictor.from_pretrained(project)
    assert_same(predictor.predict_file(tmp_path / "turned.png"), predictor.predict(pixels))


def test_what_is_missing_or_damaged_is_one_line(project: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"params\.yaml: no such file"):
        Predictor.from_pretrained(tmp_path)
    (tmp_path / "params.yaml").write_bytes((project / "params.yaml").read_bytes())
    for detector, name in (("mask_rcnn", "detector"), ("one_stage", "one_stage")):
        with pytest.raises(InputError, match=rf"{tmp_path}/models/{name}\.pt: expected a file made by `dvc repro`"):
            Predictor.from_pretrained(tmp_path, detector=detector)
    whole, path = (project / "models/detector.pt").read_bytes(), tmp_path / "models/detector.pt"
    path.parent.mkdir()
    path.write_bytes(whole[:-4000])
    with pytest.raises(InputError, match=rf"^{path}: expected a checkpoint of tensors only") as error:
        Predictor.from_pretrained(tmp_path)
    assert str(error.value).isprintable()
    path.write_bytes(whole)
    tree = json.loads((tmp_path / "params.yaml").read_text())
    tree["box_head"]["representation_size"] = 32
    (tmp_path / "params.yaml").write_text(json.dumps(tree))
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}\[box_head\]\[fc6.weight\]: expected shape"):
        Predictor.from_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"my\.jpg: expected a picture that can be read"):
        Predictor.from_pretrained(project).predict_file(tmp_path / "my.jpg")

"""What cannot be exported is refused in one line, before anything is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tools.export.project import write_project
from tools.export import programs
from tools.export.__main__ import main


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that can be exported: whatever comes to tracing it is an error of the test."""
    for name in ("params.yaml", "models/detector.pt", "metrics"):
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True)
        if (whole / name).is_dir():
            place.mkdir()
            for file in (whole / name).iterdir():
                (place / file.name).write_bytes(file.read_bytes())
        else:
            place.write_bytes((whole / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(programs, "missing_packages", list)
    monkeypatch.setattr(programs, "trace", lambda graph: pytest.fail("it was traced"))
    return tmp_path


def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main() == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("export: ")
    assert not (folder / "export").exists()
    return line


def with_setting(folder: Path, section: str, key: str, value: Any) -> None:
    tree = json.loads((folder / "params.yaml").read_text())
    tree[section][key] = value
    (folder / "params.yaml").write_text(json.dumps(tree))


SPOILED: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "no detector": (lambda folder: (folder / "models/detector.pt").unlink(), ["models/detector.pt", "dvc repro"]),
    "half a detector": (
        lambda folder: (folder / "models/detector.pt").write_bytes((folder / "models/detector.pt").read_bytes()[:5000]),
        ["models/detector.pt", "a checkpoint of tensors only"],
    ),
    "another detector": (lambda f: with_setting(f, "box_head", "representation_size", 32), ["detector.pt[box_head]"]),
    "no metrics": (lambda folder: (folder / "metrics/evaluate.json").unlink(), ["metrics/evaluate.json"]),
    "part of the metrics": (
        lambda folder: (folder / "metrics/evaluate.json").write_text('{"box_ap50": 0.5}'),
        ["metrics/evaluate.json", "the key 'ap50_interval'"],
    ),
    "a canvas of two maps' rows": (
        lambda folder: with_setting(folder, "prepare", "height", 64),
        ["params.yaml", "96 to 16384", "'prepare.height'", "found 64"],
    ),
    "a canvas too wide": (
        lambda folder: with_setting(folder, "prepare", "padded_width", 16416),
        ["params.yaml", "'prepare.padded_width'", "found 16416"],
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_run_that_is_not_whole(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    spoil, words = SPOILED[name]
    spoil(folder)
    line = refused(folder, capsys)
    assert [word for word in words if word not in line] == []


def test_without_the_extra(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "missing_packages", lambda: ["onnxscript", "onnxruntime"])
    assert refused(folder, capsys).endswith("found no onnxscript, onnxruntime; pip install onnxscript onnxruntime")

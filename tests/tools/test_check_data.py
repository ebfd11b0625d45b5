"""`make check`: what is said of a set, good and bad, and the status that says whether `ingest` would refuse it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.core.errors import InputError
from src.core.params_file import load_params
from src.sources.opening import open_source
from tests.factories import data_params, make_coco, make_course
from tests.structure.project import PROJECT
from tools import check_data

COUNT = 8


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good set beside params.yaml, in the working directory."""
    shutil.copy(PROJECT / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    make_coco(tmp_path / "set", COUNT, seed=1)
    return Path("set")


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """Status and lines; nothing on stderr, nothing written."""
    before = sorted(Path().rglob("*"))
    status = check_data.main(arguments)
    printed = capsys.readouterr()
    assert printed.err == ""
    assert sorted(Path().rglob("*")) == before
    lines = printed.out.splitlines()
    assert all(line.isprintable() for line in lines)
    return status, lines


def changed(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tree = json.loads((root / "instances.json").read_text())
    change(tree)
    (root / "instances.json").write_text(json.dumps(tree))


def test_a_good_set(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = list(open_source(data_params("coco", root)))
    status, lines = checked(capsys, str(root))
    assert status == 0
    assert lines[0] == "layout: instances.json with images/; split: drawn, 80 % to train"
    assert lines[2] == "images: train images 6, test images 2; 0 without objects; 1 crowd regions"
    labels = [int(label) for sample in samples for label in sample.labels[~sample.crowd]]
    for label, name in enumerate(("vehicle", "person", "animal"), 1):
        assert any(line.startswith(f"  {name}: {labels.count(label)} objects (") for line in lines)
    assert f"passed over: objects of the category 'chair' {COUNT}" in lines
    assert lines[-1] == "nothing refuses this set"


def test_the_course_s_files(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(root)
    make_course(root, 5)
    status, lines = checked(capsys, str(root))
    assert status == 0
    assert lines[:2] == [
        "layout: the course's four files in set; split: drawn, 80 % to train",
        "images: train images 4, test images 1; 0 without objects; 0 crowd regions",
    ]


def test_what_is_wrong_is_listed_also_where_it_refuses_the_set(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "images/000000000002.png").unlink()
    (root / "images/000000000003.png").write_bytes(b"half")
    status, lines = checked(capsys, str(root))
    assert status == 1
    assert any("images[1]]: no such file: expected the image" in line for line in lines)
    assert any("images[2]]: an unreadable picture: expected" in line for line in lines)
    assert lines[-1].startswith("refused: set: expected at most 5 % of its images wrong (data.largest_left_out)")
    assert any(line.startswith("images: ") for line in lines)
    status, lines = checked(capsys, str(root), "data.largest_left_out=0.5")
    assert (status, lines[-1]) == (0, "nothing refuses this set")


def test_strictly_one_is_enough(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "images/000000000003.png").write_bytes(b"half")
    assert checked(capsys, str(root))[0] == 0
    status, lines = checked(capsys, str(root), "data.strict=true")
    assert status == 1
    assert "000000000003.png: expected a picture that can be read" in lines[-1]


def test_what_is_wrong_as_a_whole(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(root, lambda tree: tree.update(annotations=[]))
    status, lines = checked(capsys, str(root))
    assert status == 1
    assert lines[0].startswith("layout: ")
    assert "objects of the classes vehicle, person, animal" in lines[-1]
    assert lines[-1].endswith("found none")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "a folder in 'data.root'"),
        (("set", "data.limits=3"), "params.yaml has no setting 'data.limits'"),
        (("set", "data.strict=maybe"), "true or false for 'data.strict'"),
        (("set", "data.strict"), "expected key=value"),
    ],
)
def test_what_cannot_be_checked(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    status, lines = checked(capsys, *arguments)
    assert status == 1
    assert len(lines) == 1
    assert words in lines[0]


def test_small_objects(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def shrink(tree: dict[str, Any]) -> None:
        entry = tree["annotations"][0]
        entry |= {"bbox": [50, 50, 6, 6], "segmentation": [[50, 50, 56, 50, 56, 56, 50, 56]]}

    total = sum((~sample.crowd).sum() for sample in open_source(data_params("coco", root)))
    assert not any("smaller than the smallest anchor" in line for line in checked(capsys, str(root))[1])
    changed(root, shrink)
    _, lines = checked(capsys, str(root))
    assert f"  1 of {total} objects are smaller than the smallest anchor, 32 pixels (backbone.anchor_sizes)" in lines


def test_duplicates_across_the_split(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = {sample.name: sample.split for sample in open_source(data_params("coco", root))}
    test = next(name for name in splits if splits[name] == "test")
    sizes = {
        entry["file_name"]: entry["height"] for entry in json.loads((root / "instances.json").read_text())["images"]
    }
    train = next(name for name in splits if splits[name] == "train" and sizes[name] == sizes[test])
    assert not any("two splits" in line for line in checked(capsys, str(root))[1])
    shutil.copy(root / "images" / test, root / "images" / train)
    status, lines = checked(capsys, str(root))
    assert "1 pictures are in two splits, the same to the pixel" in lines
    pair = {f"{test} (test)", f"{train} (train)"}
    assert any(set(line.strip().split(" = ")) == pair for line in lines)
    assert status == 0


def test_the_set_s_own_split(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train", "valid"):
        shutil.copytree(root / "images", Path("own") / name)
        shutil.copy(root / "instances.json", Path("own") / name / "_annotations.coco.json")
    _, lines = checked(capsys, "own")
    assert lines[0].endswith("; split: its own")
    assert [line.rsplit(": ", 1)[1] for line in lines[1:3]] == ["train", "test"]
    assert f"{COUNT} pictures are in two splits, the same to the pixel" in lines


def test_the_shipped_params_are_what_is_checked_with(root: Path) -> None:
    params = check_data.settings(root, ["data.limit=3"])
    shipped = load_params(PROJECT / "params.yaml")
    assert (params.data.source, params.data.root, params.data.limit) == ("coco", "set", 3)
    assert params.backbone == shipped.backbone
    with pytest.raises(InputError):
        check_data.settings(root, ["rpn.epochs=many"])

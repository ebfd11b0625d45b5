"""Damaged bytes for each of the five readers: either they read them, or `InputError` comes out, never anything else.

Half of the examples are good files with bytes changed, dropped or put in; the others are bytes at random.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.core.errors import InputError
from src.core.params_file import load_params
from src.sources import left_out
from src.sources.coco.source import CocoSource, open_coco
from src.sources.course import open_course
from src.sources.left_out import Findings
from src.sources.pickles import read_arrays
from src.sources.pictures import read_picture
from tests.factories import data_params
from tests.hostile import cases_params, cases_pictures
from tests.hostile.cases_course import IMAGES, LABELS

PICTURES = [cases_pictures.encoded(kind) for kind in ("jpeg", "png", "webp", "bmp", "gif", "tiff", "avif")]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(), inner, max_size=3)
)

# Each example writes its file anew, so the folder may be shared.
fuzz = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@st.composite
def damaged(draw: st.DrawFn, *wholes: bytes) -> bytes:
    """A good file with a few bytes changed near its start, where headers are, or anywhere, and perhaps cut."""
    content = bytearray(draw(st.sampled_from(wholes)))
    near = min(len(content), 2000) - 1
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, near) | st.integers(0, len(content) - 1))
        content[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
        content = content or bytearray(b"\0")
    return bytes(content[: draw(st.none() | st.integers(0, len(content)))])


def survives(read: Callable[[], Any]) -> None:
    """Reads, or complains in one line; any other exception fails the test."""
    try:
        read()
    except InputError as error:
        assert str(error).isprintable()  # noqa: PT017 - either outcome is right


@fuzz
@given(data=st.data())
def test_h5(course: Path, tmp_path: Path, data: st.DataObject) -> None:
    root = tmp_path / "course"
    if not root.is_dir():
        shutil.copytree(course, root)
    content = data.draw(damaged((course / IMAGES).read_bytes()) | st.binary(max_size=3000))
    (root / IMAGES).write_bytes(content)
    survives(lambda: list(open_course(data_params("course", root))))


@fuzz
@given(data=st.data())
def test_npy(course: Path, tmp_path: Path, data: st.DataObject) -> None:
    whole = (course / LABELS).read_bytes()
    random = st.binary(max_size=300)
    content = data.draw(damaged(whole) | random | random.map(lambda program: whole[:128] + program))
    (tmp_path / "a.npy").write_bytes(content)
    survives(lambda: read_arrays(tmp_path / "a.npy"))


@pytest.fixture(scope="module")
def small_coco(tmp_path_factory: pytest.TempPathFactory, coco: Path) -> Path:
    """The pictures of a COCO set, and a json of two of them to be damaged."""
    root = tmp_path_factory.mktemp("small") / "coco"
    shutil.copytree(coco, root)
    tree = json.loads((root / "instances.json").read_text())
    tree["images"] = tree["images"][:2]
    tree["annotations"] = [entry for entry in tree["annotations"] if entry["image_id"] <= 2]
    (root / "whole.json").write_text(json.dumps(tree))
    return root


@pytest.mark.parametrize("strict", [False, True])
@fuzz
@given(data=st.data())
def test_json(small_coco: Path, strict: bool, data: st.DataObject) -> None:
    """Damaged text; and whole trees in which any value of an entry is replaced by any other."""
    whole = (small_coco / "whole.json").read_bytes()
    content = data.draw(damaged(whole) | st.binary(max_size=300) | st.none())
    if content is None:
        tree = json.loads(whole)
        entry = data.draw(st.sampled_from([entry for section in tree.values() for entry in section]))
        entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(VALUES)
        content = json.dumps(tree).encode()
    (small_coco / "instances.json").write_bytes(content)
    survives(lambda: list(open_coco(data_params("coco", small_coco, strict=strict))))


LIBERTIES = st.sampled_from(
    [None, "", "1", "1.0", "x", 1.0, 0, -1, True, [], [[]], [[[]]], {}, [None], [1, 2, 3, 4], ["1", "2", "3", "4"]]
)


@pytest.fixture(scope="module")
def lenient_coco(tmp_path_factory: pytest.TempPathFactory, coco: Path) -> Path:
    """A COCO set of six pictures, to be damaged in a few entries."""
    root = tmp_path_factory.mktemp("lenient") / "coco"
    shutil.copytree(coco, root)
    (root / "instances.json").rename(root / "whole.json")
    return root


@fuzz
@given(data=st.data())
def test_what_the_lenient_reader_leaves_out_is_counted(lenient_coco: Path, data: st.DataObject) -> None:
    """Values of entries replaced or taken away: each object is read, listed, passed over or gone with its picture."""
    tree = json.loads((lenient_coco / "whole.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        entry = data.draw(st.sampled_from([*tree["images"], *tree["annotations"]]))
        key = data.draw(st.sampled_from(sorted(entry)))
        entry[key] = data.draw(LIBERTIES | VALUES)
        if data.draw(st.booleans()):
            del entry[key]
    (lenient_coco / "instances.json").write_text(json.dumps(tree))
    source = open_coco_or_none(lenient_coco)
    if source is None:
        return
    samples, found = list(source), source.findings
    assert len(samples) + sum(found.reasons(left_out.IMAGES).values()) + passed(found, "images") == len(tree["images"])
    objects = sum(len(sample.labels) for sample in samples) + sum(found.reasons(left_out.OBJECTS).values())
    gone = len(tree["annotations"]) - objects - passed(found, "objects")
    assert gone >= 0 if len(samples) < len(tree["images"]) else gone == 0
    assert all(cell.isprintable() for entry in found.left_out for cell in entry.row)


def open_coco_or_none(root: Path) -> CocoSource | None:
    """The set, forgiving all that can be forgiven, read once; None if it is refused."""
    source = None
    try:
        source = open_coco(data_params("coco", root, largest_left_out=1.0))
        list(source)
    except InputError as error:
        assert str(error).isprintable()  # noqa: PT017 - either outcome is right
        return None
    return source


def passed(found: Findings, kind: str) -> int:
    return sum(count for text, count in found.passed_over.items() if text.startswith(kind))


@fuzz
@given(content=damaged(cases_params.SHIPPED.encode()) | st.binary(max_size=300) | st.text().map(str.encode))
def test_params(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    survives(lambda: load_params(tmp_path / "params.yaml"))


@fuzz
@given(content=damaged(*PICTURES) | st.binary(max_size=300))
def test_pictures(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    survives(lambda: read_picture(tmp_path / "a.jpg"))

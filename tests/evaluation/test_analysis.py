"""The file between `detect` and `evaluate` keeps every bit, and a broken one is refused in one line."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from src.core.errors import InputError
from src.evaluation.analysis import SecondStageAnalysis, read_analyses, write_analyses
from src.evaluation.funnel import STEPS
from src.evaluation.instances import Instances
from src.evaluation.rle import decode_masks, encode_masks
from tests.evaluation.scenes import HEIGHT, WIDTH, found

# beartype, which checks types in tests, draws from `random` which items of a list it looks at.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")
in_tmp_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
FLOATS = ("proposals", "iou_before", "iou_after", "halves_before", "halves_after")


def columns(count: int) -> st.SearchStrategy[Tensor]:
    """`count` float32 numbers of any size, zeros with a sign and numbers below the normal ones among them."""
    return st.lists(numbers, min_size=count, max_size=count).map(lambda row: torch.tensor(row, dtype=torch.float32))


def boxes(count: int) -> st.SearchStrategy[Tensor]:
    return columns(4 * count).map(lambda row: row.reshape(-1, 4))


def labels(count: int) -> st.SearchStrategy[Tensor]:
    whole = st.lists(st.integers(-1, 2**62), min_size=count, max_size=count)
    return whole.map(lambda row: torch.tensor(row, dtype=torch.int64))


@st.composite
def instances(draw: st.DrawFn) -> Instances:
    count = draw(st.integers(0, 3))
    pixels = np.random.default_rng(draw(st.integers(0, 99))).random((count, HEIGHT, WIDTH)) < draw(st.floats(0, 1))
    masks = draw(st.sampled_from([encode_masks(pixels), None]))
    proposals = draw(st.one_of(boxes(count), st.none()))
    return Instances(draw(boxes(count)), draw(labels(count)), draw(columns(count)), masks, proposals)


@st.composite
def analyses(draw: st.DrawFn) -> SecondStageAnalysis:
    proposals, objects = draw(st.integers(0, 4)), draw(st.integers(0, 2))
    return SecondStageAnalysis(
        name=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
        found={border: draw(instances()) for border in ("remove", "clip")},
        proposals=draw(boxes(proposals)),
        truth=draw(labels(proposals)),
        predicted=draw(labels(proposals)),
        iou_before=draw(columns(objects)),
        iou_after=draw(columns(objects)),
        halves_before=draw(columns(4 * objects)),
        halves_after=draw(columns(4 * objects)),
        lost_at=tuple(draw(st.lists(st.sampled_from(list(STEPS)), max_size=3))),
    )


def assert_same(first: Any, second: Any) -> None:
    """The same types and the same bits."""
    assert type(first) is type(second)
    if dataclasses.is_dataclass(first):
        for field in dataclasses.fields(first):
            assert_same(getattr(first, field.name), getattr(second, field.name))
    elif isinstance(first, Tensor):
        assert (first.dtype, first.shape) == (second.dtype, second.shape)
        assert first.numpy().tobytes() == second.numpy().tobytes()
    elif isinstance(first, dict):
        assert list(first) == list(second)
        for key, value in first.items():
            assert_same(value, second[key])
    else:
        assert first == second


@in_tmp_path
@given(st.lists(analyses(), max_size=3))
def test_what_is_written_is_read_bit_by_bit(tmp_path: Path, images: list[SecondStageAnalysis]) -> None:
    path = tmp_path / "detections.jsonl"
    write_analyses(path, iter(images))
    read = list(read_analyses(path))
    assert len(read) == len(images)
    for one, other in zip(images, read, strict=True):
        assert_same(one, other)
    lines = path.read_text(encoding="utf-8").split("\n")
    assert [json.loads(line)["name"] for line in lines[:-1]] == [one.name for one in images]


def analysis(name: str = "test/000000") -> SecondStageAnalysis:
    """Two proposals, one of them an object's; a detection under each rule."""
    one = found([[1, 2, 11, 12.5]], [3], [0.7], proposals=[[0, 0, 10, 10]])
    return SecondStageAnalysis(
        name=name,
        found={"remove": one.keep(one.scores > 2), "clip": one},
        proposals=torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]),
        truth=torch.tensor([3, -1]),
        predicted=torch.tensor([3, 0]),
        iou_before=torch.tensor([0.6]),
        iou_after=torch.tensor([0.9]),
        halves_before=torch.full((4,), 0.5),
        halves_after=torch.tensor([0.5, 0.6, 0.7, 0.8]),
        lost_at=("background",),
    )


def test_masks_are_those_that_were_found(tmp_path: Path) -> None:
    write_analyses(tmp_path / "a.jsonl", [analysis()])
    (read,) = read_analyses(tmp_path / "a.jsonl")
    (mask,) = decode_masks(read.found["clip"].masks or [], HEIGHT, WIDTH)
    assert np.argwhere(mask).min(axis=0).tolist() == [2, 1]
    assert np.argwhere(mask).max(axis=0).tolist() == [11, 10]
    assert read.found["remove"].masks == []


def test_images_are_written_and_read_as_they_come(tmp_path: Path) -> None:
    """A split of any size: neither side holds more than one image."""
    path, made = tmp_path / "a.jsonl", []

    def stream() -> Iterator[SecondStageAnalysis]:
        for number in range(3):
            made.append(number)
            yield analysis(f"test/{number}")

    images = stream()
    write_analyses(path, images)
    assert made == [0, 1, 2]
    with path.open("a", encoding="utf-8") as file:
        file.write("broken\n")
    reader = read_analyses(path)
    assert [next(reader).name for _ in range(3)] == ["test/0", "test/1", "test/2"]
    with pytest.raises(InputError):
        next(reader)


Change = Callable[[dict[str, Any]], Any]
LONG = "y" * 10_000


def without(key: str) -> Change:
    return lambda tree: {name: value for name, value in tree.items() if name != key}


def clipped(**changes: Any) -> Change:
    """The detections under `clip`, changed."""
    return lambda tree: tree | {"found": {"clip": tree["found"]["clip"] | changes}}


BROKEN: dict[str, Change] = {
    "a list": lambda tree: [tree],
    "a number": lambda tree: 3,
    "null": lambda tree: None,
    **{f"without {field.name}": without(field.name) for field in dataclasses.fields(SecondStageAnalysis)},
    **{f"text in {name}": lambda tree, name=name: tree | {name: LONG} for name in (*FLOATS, "truth", "predicted")},
    **{f"null in {name}": lambda tree, name=name: tree | {name: None} for name in (*FLOATS, "truth", "found")},
    "found a list": lambda tree: tree | {"found": [tree["found"]["clip"]]},
    "found a text": lambda tree: tree | {"found": {"clip": LONG}},
    "boxes of three numbers": lambda tree: tree | {"proposals": [[1, 2, 3]]},
    "boxes of different lengths": lambda tree: tree | {"proposals": [[1, 2, 3, 4], [1, 2]]},
    "a label too large": lambda tree: tree | {"truth": [2**70]},
    "a score that is a line": clipped(scores=["a\nb\x1b[31m"]),
    "an unknown step": lambda tree: tree | {"lost_at": [LONG]},
    "no steps": lambda tree: tree | {"lost_at": None},
    "no scores": clipped(scores=None),
}


def write_broken(path: Path, name: str) -> None:
    write_analyses(path, [analysis()])
    tree = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(BROKEN[name](tree)) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", BROKEN)
def test_an_entry_of_another_making_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    write_broken(tmp_path / "detections.jsonl", name)
    assert_refused(tmp_path / "detections.jsonl")


READER = """
import sys
from pathlib import Path
from src.evaluation.analysis import read_analyses
for name in sys.argv[1:]:
    try:
        list(read_analyses(Path(name)))
        print("read")
    except Exception as error:
        print(type(error).__name__)
"""


def test_it_is_refused_without_the_types_that_only_tests_check_too(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jsonl" for number in range(len(BROKEN))]
    for path, name in zip(paths, BROKEN, strict=True):
        write_broken(path, name)
    command = [sys.executable, "-c", READER, *map(str, paths)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert dict(zip(BROKEN, done.stdout.split(), strict=True)) == dict.fromkeys(BROKEN, "InputError")


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff\xfe\x00", b"\n", b"text\n", b"[" * 100_000, b"\x89HDF\r\n\x1a\n" + bytes(99)],
    ids=["cut off", "no text", "an empty line", "words", "nested without end", "hdf5"],
)
def test_a_file_of_another_making_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    assert_refused(tmp_path / "a.jsonl")


def test_a_file_cut_off_anywhere_in_a_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_analyses(path, [analysis()])
    whole = path.read_bytes()
    for end in range(1, len(whole) - 2, 97):
        path.write_bytes(whole[:end])
        assert_refused(path)


def test_a_missing_file_and_a_folder_in_its_place_are_refused(tmp_path: Path) -> None:
    assert "No such file" in assert_refused(tmp_path / "none.jsonl")
    assert_refused(tmp_path)


def assert_refused(path: Path) -> str:
    """That reading ends with a line that names the file and who writes it; gives the line."""
    with pytest.raises(InputError) as error:
        list(read_analyses(path))
    message = str(error.value)
    assert message.startswith(f"{path}: expected a file that stage `detect` wrote, found ")
    assert len(message) < 800
    assert message.isprintable()
    return message


class DetectorError(Exception):
    """Stands for whatever may go wrong in the middle of a split."""


def broken_stream() -> Iterator[SecondStageAnalysis]:
    yield analysis("new")
    raise DetectorError


def not_a_number() -> Iterator[SecondStageAnalysis]:
    yield analysis("new")
    yield dataclasses.replace(analysis(), iou_after=torch.tensor([float("nan")]))


@pytest.mark.parametrize(("images", "error"), [(broken_stream, DetectorError), (not_a_number, ValueError)])
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, images: Callable[[], Iterator[SecondStageAnalysis]], error: type[Exception]
) -> None:
    path = tmp_path / "data" / "detections.jsonl"
    write_analyses(path, [analysis("old")])
    before = path.read_bytes()
    with pytest.raises(error):
        write_analyses(path, images())
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["detections.jsonl"]
    with pytest.raises(error):
        write_analyses(path.with_name("other.jsonl"), images())
    assert [file.name for file in path.parent.iterdir()] == ["detections.jsonl"]

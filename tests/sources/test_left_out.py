"""Records of what is left out: how they add up, what they say, and how many are too many."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.core.errors import InputError
from src.sources.left_out import IMAGES, NO_FILE, NO_MASK, NO_OBJECT, OBJECTS, Findings, LeftOut, merge

SET = Path("a set")


def images(count: int, reason: str = NO_FILE, *, fault: bool = True) -> tuple[LeftOut, ...]:
    return tuple(LeftOut(IMAGES, "a.json", f"images[{n}]", reason, "expected x, found y", fault) for n in range(count))


def objects(count: int) -> tuple[LeftOut, ...]:
    return tuple(LeftOut(OBJECTS, "a.json", f"annotations[{n}]", NO_MASK, "expected x, found y") for n in range(count))


@pytest.mark.parametrize(
    ("found", "largest"),
    [
        (Findings(100, 10, images(5)), 0.05),
        (Findings(100, 100, images(5) + objects(5)), 0.05),  # each kind has its own share
        (Findings(3, 3, images(1) + objects(1)), 0.05),  # one of each is forgiven
        (Findings(3, 3, images(3)), 1.0),
        (Findings(9, 9, images(9, fault=False)), 0.0),
        (Findings(), 0.0),
    ],
)
def test_a_small_share_is_forgiven(found: Findings, largest: float) -> None:
    found.check_share(SET, largest)


@pytest.mark.parametrize(
    ("found", "largest", "words"),
    [
        (Findings(100, 10, images(6)), 0.05, "at most 5 % of its images wrong (data.largest_left_out), found 6 of 100"),
        (Findings(100, 10, objects(2)), 0.1, "at most 10 % of its objects wrong"),
        (Findings(100, 10, images(1)), 0.0, "at most 0 % of its images wrong"),
        (
            Findings(9, 0, images(2) + images(1, "x")),
            0.1,
            "such file 2, x 1; the first images[0]: expected x, found y",
        ),
    ],
)
def test_a_larger_share_is_refused_with_the_counts(found: Findings, largest: float, words: str) -> None:
    with pytest.raises(InputError) as caught:
        found.check_share(SET, largest)
    assert str(caught.value).startswith("a set: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parts_add_up() -> None:
    one = Findings(2, 3, images(1), {"a": 1}, {"b": 2})
    whole = merge([one, Findings(1, 1, objects(2), {"a": 2, "c": 1}), Findings()])
    assert (whole.images, whole.objects, len(whole.left_out)) == (3, 4, 3)
    assert whole.describe() == {
        "left_out_images": {NO_FILE: 1},
        "left_out_objects": {NO_MASK: 2},
        "mended": {"a": 3, "c": 1},
        "passed_over": {"b": 2},
    }
    assert whole.lines() == [
        "mended 4 entries: a 3, c 1",
        f"left out 1 of 3 images: {NO_FILE} 1",
        f"left out 2 of 4 objects: {NO_MASK} 2",
        "passed over: b 2",
    ]


def test_what_follows_from_a_fault_is_listed_and_no_fault() -> None:
    whole = Findings(9, 9, images(2, NO_OBJECT, fault=False))
    assert whole.reasons(IMAGES) == {NO_OBJECT: 2}
    assert whole.reasons(IMAGES, faults=True) == {}


def test_a_row_is_a_printable_line() -> None:
    row = LeftOut(IMAGES, "a\n.json", "images[0]\x1b[2J", NO_FILE, "expected\r\nx").row
    assert all(cell.isprintable() for cell in row)

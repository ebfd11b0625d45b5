"""Polygons and run lengths against pycocotools, and hostile ones."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as reference

from src.sources.coco.segmentation import decode, decode_runs, text_to_runs

MASKS = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1))


def plain_runs(mask: np.ndarray) -> list[int]:
    """Run lengths by a walk over the pixels, column by column."""
    runs, value = [0], 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def test_the_example_of_the_docstring() -> None:
    assert decode_runs([1, 2, 1], (2, 2)).tolist() == [[False, True], [True, False]]


@given(mask=MASKS)
def test_runs_come_back(mask: np.ndarray) -> None:
    assert (decode({"size": list(mask.shape), "counts": plain_runs(mask)}, mask.shape) == mask).all()


@given(mask=MASKS)
def test_text_is_read_as_pycocotools_writes_it(mask: np.ndarray) -> None:
    text = reference.encode(np.asfortranarray(mask))["counts"].decode()
    assert text_to_runs(text) == plain_runs(mask)
    assert (decode({"size": list(mask.shape), "counts": text}, mask.shape) == mask).all()


def test_text_of_long_runs() -> None:
    mask = np.zeros((900, 1100), np.uint8, order="F")
    mask[100:800, 200:1000] = 1
    text = reference.encode(mask)["counts"].decode()
    assert (decode({"size": [900, 1100], "counts": text}, (900, 1100)) == mask).all()


@given(st.lists(st.lists(st.integers(0, 400), min_size=6, max_size=12).filter(lambda p: len(p) % 2 == 0), min_size=1))
def test_polygons_are_rasterized_as_pycocotools_does(polygons: list[list[int]]) -> None:
    polygons = [[value / 10 for value in polygon] for polygon in polygons]
    expected = reference.decode(reference.merge(reference.frPyObjects(polygons, 40, 40)))
    assert (decode(polygons, (40, 40)) == expected).all()


def test_polygons_of_less_than_three_corners_have_no_pixels() -> None:
    assert not decode([[1, 1, 5, 5]], (8, 8)).any()
    assert decode([[1, 1, 5, 5], [0, 0, 4, 0, 4, 4, 0, 4]], (8, 8)).sum() == 16


@pytest.mark.parametrize(
    "broken",
    [
        [],
        None,
        {},
        {"size": [4, 4], "counts": [16]},
        {"size": [8, 8], "counts": [60]},
        {"size": [8, 8], "counts": [70, -6]},
        {"size": [8, 8], "counts": [64.0]},
        {"size": [8, 8], "counts": [True, 63]},
        {"size": [8, 8], "counts": [10**18, 64]},
        {"size": [8, 8], "counts": "\x00"},
        {"size": [8, 8], "counts": "ééé"},
        {"size": [8, 8], "counts": "o" * 1000},
        {"size": [8, 8], "counts": "P"},
        {"size": [8, 8], "counts": None},
        [[1, 2, 3]],
        [["1", "2", "3", "4", "5", "6"]],
        [[1, 1, float("nan"), 5, 5, 1]],
        [[1, 1, 1e300, 5, 5, 1]],
        [[1, 1, 1e9, 5, 5, 1]],
        [1, 1, 5, 5, 5, 1],
    ],
)
def test_refuses_what_does_not_fit(broken: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(broken, (8, 8))

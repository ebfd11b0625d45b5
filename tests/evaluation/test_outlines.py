"""Masks as polygons: filled again, they are the same masks."""

from __future__ import annotations

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Outline

from src.evaluation.outlines import mask_polygons


def filled(polygons: list[list[float]], height: int, width: int) -> np.ndarray:
    """As COCO fills them."""
    if not polygons:
        return np.zeros((height, width), bool)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))).astype(bool)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def disk(side: int, radius: float, hole: float = 0.0) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    distance = np.hypot(rows, columns)
    return (distance <= radius) & (distance >= hole)


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_any_mask_comes_back(mask: np.ndarray) -> None:
    polygons = mask_polygons(mask)
    assert bool(polygons) == bool(mask.any())
    if polygons:
        assert overlap(filled(polygons, *mask.shape), mask) >= 0.98
    assert all(len(polygon) >= 6 for polygon in polygons)


@pytest.mark.parametrize("name", ["disk", "ring", "parts", "frame in a frame", "comb"])
def test_shapes_come_back_with_few_corners(name: str) -> None:
    mask = np.zeros((120, 140), bool)
    if name == "disk":
        mask[5:95, 20:110] = disk(90, 43)
    elif name == "ring":
        mask[5:95, 20:110] = disk(90, 43, 20)
    elif name == "parts":
        mask[5:45, 20:60], mask[60:110, 80:130] = disk(40, 19), disk(50, 24, 10)
    elif name == "frame in a frame":
        mask[2:118, 2:138], mask[10:110, 10:130], mask[20:100, 20:120] = True, False, True
        mask[30:50, 30:60], mask[30:50, 70:100], mask[70:90, 40:90] = False, False, False
    else:
        mask[10:110, 10:130] = True
        mask[10:100, 14:130:8] = False
    polygons = mask_polygons(mask)
    assert len(polygons) == {"parts": 2, "frame in a frame": 2}.get(name, 1)
    assert overlap(filled(polygons, *mask.shape), mask) >= 0.98
    corners = sum(map(len, polygons)) // 2
    edges = int((np.diff(mask.astype(int), axis=0) != 0).sum() + (np.diff(mask.astype(int), axis=1) != 0).sum())
    assert corners < edges / 3


def test_holes_are_left_out_by_any_filling() -> None:
    """Also by one that looks whether the centers of pixels are inside."""
    mask = disk(60, 28, 12)
    ((*values,),) = mask_polygons(mask)
    outline = np.array(values).reshape(-1, 2)
    centers = np.stack(np.meshgrid(np.arange(60) + 0.5, np.arange(60) + 0.5), axis=-1).reshape(-1, 2)
    inside = Outline(np.vstack([outline, outline[:1]])).contains_points(centers).reshape(60, 60)
    assert overlap(inside, mask) >= 0.98


def test_coordinates_are_those_of_the_picture() -> None:
    mask = np.zeros((20, 30), bool)
    mask[4:9, 10:25] = True
    ((*values,),) = mask_polygons(mask)
    assert sorted(zip(values[::2], values[1::2], strict=True)) == [(10, 4), (10, 9), (25, 4), (25, 9)]

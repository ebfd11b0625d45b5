"""Stencils: the rows they name, their weights, FPN levels."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops.poolers import LevelMapper

from src.ops.stencil import assign_levels, multiscale_stencil, roi_stencil
from tests.ops.rois import random_boxes

BOX = [[1.0, 4.0, 3.0, 12.0, 9.0]]  # image 1, x 4..12, y 3..9


def test_rows_are_image_then_y_then_x() -> None:
    """One point a cell, one cell: the box's center (8, 6) is the corner of four pixels."""
    stencil = roi_stencil(torch.tensor(BOX), (10, 20), 2, 1, 1.0, sampling_ratio=1)
    pixels = {200 + 5 * 20 + 7, 200 + 5 * 20 + 8, 200 + 6 * 20 + 7, 200 + 6 * 20 + 8}
    assert set(stencil.indices.flatten().tolist()) == pixels
    assert stencil.weights.flatten().tolist() == [0.25] * 4


def test_four_points_make_sixteen_pixels_at_most() -> None:
    stencil = roi_stencil(torch.tensor([[0.0, 0, 0, 40, 40]]), (40, 40), 1, (2, 3), 1.0)
    assert stencil.indices.shape == stencil.weights.shape == (6, 16)
    torch.testing.assert_close(stencil.weights.sum(dim=1), torch.ones(6))


@given(st.lists(st.floats(-30, 60, width=32), min_size=4, max_size=4), st.integers(1, 3), st.booleans())
def test_indices_stay_in_the_map_and_repeat_only_without_weight(box: list[float], points: int, aligned: bool) -> None:
    stencil = roi_stencil(torch.tensor([[1.0, *box]]), (12, 17), 2, 3, 0.5, points, aligned)
    assert stencil.indices.min() >= 12 * 17
    assert stencil.indices.max() < 2 * 12 * 17
    assert (stencil.weights >= 0).all()
    assert (stencil.weights.sum(dim=1) <= 1 + 1e-5).all()
    for indices, weights in zip(stencil.indices.tolist(), stencil.weights.tolist(), strict=True):
        used = [i for i, w in zip(indices, weights, strict=True) if w > 0]
        assert len(used) == len(set(used))


def test_not_a_number_counts_nothing() -> None:
    stencil = roi_stencil(torch.tensor([[0.0, math.nan, 0, 5, math.inf]]), (4, 4), 1, 2, 1.0)
    assert stencil.weights.abs().sum() == 0
    assert stencil.indices.min() >= 0
    assert stencil.indices.max() < 16


@pytest.mark.parametrize("image", [-1.0, 2.0])
def test_an_image_outside_the_batch_is_refused(image: float) -> None:
    boxes = torch.tensor([[image, 0, 0, 4, 4]])
    with pytest.raises(ValueError, match=r"0\.\.1"):
        roi_stencil(boxes, (8, 8), 2, 7, 1.0)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        multiscale_stencil(boxes, [(8, 8), (4, 4)], [4, 8], 2, 7)


def test_a_stencil_needs_points() -> None:
    with pytest.raises(ValueError, match="sampling_ratio"):
        roi_stencil(torch.tensor(BOX), (8, 8), 2, 7, 1.0, sampling_ratio=0)


def test_levels_count_doublings_not_natural_logarithms() -> None:
    sides = torch.tensor([10.0, 111.9, 112, 223.9, 224, 447.9, 448, 5000, 0])
    boxes = torch.stack([torch.zeros(9), torch.zeros(9), sides, sides], dim=1)
    assert assign_levels(boxes).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 0]  # 0 is P2
    assert assign_levels(boxes, 3).tolist() == [0, 0, 1, 1, 2, 2, 2, 2, 0]  # no level above P4
    assert assign_levels(boxes, 1).tolist() == [0] * 9


@given(st.lists(st.floats(0.125, 2000, width=32), min_size=2, max_size=20))
def test_levels_agree_with_torchvision(sides: list[float]) -> None:
    corners = torch.tensor(sides)
    boxes = torch.stack([corners * 0, corners * 0, corners, corners.flip(0)], dim=1)
    assert torch.equal(assign_levels(boxes), LevelMapper(2, 5)([boxes]))


def test_inverted_boxes_go_to_the_lowest_level() -> None:
    """torchvision multiplies two negative sides to an area."""
    boxes = torch.tensor([[240.0, 256, 40, 48], [240, 48, 40, 256]])
    assert assign_levels(boxes).tolist() == [0, 0]
    assert LevelMapper(2, 5)(boxes[:1].split(1)).tolist() == [1]


def test_rounding_leaves_a_box_of_224_pixels_on_its_level() -> None:
    box = torch.tensor([[0.0, 0.0, 223.99997, 223.99997]])  # two units in the last place below
    assert assign_levels(box).tolist() == LevelMapper(2, 5)([box]).tolist() == [2]


def test_multiscale_is_each_level_after_the_ones_before() -> None:
    boxes = torch.tensor([[1.0, 10, 10, 150, 160], [0, 5, 5, 60, 40], [1, 0, 0, 250, 250]])  # P3, P2, P4
    sizes, strides = [(64, 64), (32, 32), (16, 16)], [4, 8, 16]
    together = multiscale_stencil(boxes, sizes, strides, 2, 7)
    first_rows = [0, 2 * 64 * 64, 2 * 64 * 64 + 2 * 32 * 32]
    for row, level in enumerate([1, 0, 2]):
        alone = roi_stencil(boxes[row : row + 1], sizes[level], 2, 7, 1 / strides[level])
        cells = slice(49 * row, 49 * row + 49)
        assert torch.equal(together.indices[cells], alone.indices + first_rows[level])
        torch.testing.assert_close(together.weights[cells], alone.weights)


def test_stencil_boxes_in_half_precision_are_widened() -> None:
    """Proposals that come out of mixed precision: the geometry is still float32."""
    boxes = random_boxes(6, 1, 60).bfloat16()
    stencil = roi_stencil(boxes, (20, 24), 1, 3, 0.3)
    torch.testing.assert_close(stencil.weights, roi_stencil(boxes.float(), (20, 24), 1, 3, 0.3).weights)
    assert not math.isnan(float(stencil.weights.sum()))

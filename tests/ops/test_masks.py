"""Masks: targets against torchvision and plain loops, pasting against one pixel at a time, overlap."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes
from torchvision.ops import roi_align

from src.ops.masks import mask_targets, paste_masks

HOSTILE = torch.tensor(
    [
        [5.0, 6, 30, 32],
        [0, 0, 48, 40],
        [-10, -4, 20, 20],
        [40.3, 30.2, 70, 60],
        [100, 100, 140, 130],
        [-60, -50, -20, -30],
        [10.3, 10.7, 10.31, 10.72],
        [-500, -400, 600, 700],
        [9.5, 10.25, 12.75, 31],
    ]
)
EMPTY = torch.tensor([[10.0, 10, 10, 10], [10.5, 10, 10.5, 30], [30, 32, 5, 6]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def any_boxes(count: int = 60) -> Tensor:
    """The hostile boxes, and random ones in and around a canvas of 40 x 48."""
    corner, sides = torch.rand(2, count, 2, generator=seeded(1)) * 60
    return torch.cat([HOSTILE, torch.cat([corner - 10, corner - 10 + sides], dim=1)])


def blobs(count: int) -> Tensor:
    return F.avg_pool2d(torch.rand(count, 44, 52, generator=seeded()), 5, stride=1) > 0.5  # [count, 40, 48]


def test_soft_targets_are_torchvisions() -> None:
    masks, boxes = blobs(3), any_boxes()
    assigned = torch.arange(len(boxes)) % 3
    expected = project_masks_on_boxes(masks, boxes, assigned, 14)
    found = mask_targets(masks, boxes, assigned, 14, threshold=None, aligned=False)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_aligned_targets_are_roi_align_of_the_masks() -> None:
    masks, boxes = blobs(3), any_boxes()
    assigned = torch.arange(len(boxes)) % 3
    rois = torch.cat([assigned[:, None], boxes], dim=1).double()
    expected = roi_align(masks[:, None].double(), rois, 14, 1.0, -1, True)[:, 0].float()
    torch.testing.assert_close(mask_targets(masks, boxes, assigned, 14, threshold=None), expected, atol=1e-4, rtol=0)


def plain_target(mask: Tensor, box: list[float], size: int) -> Tensor:
    """Cell means for boxes inside whose cells are whole numbers of pixels: each point is a pixel's center."""
    x1, y1, x2, y2 = (int(v) for v in box)
    height, width = (y2 - y1) // size, (x2 - x1) // size
    result = torch.zeros(size, size)
    for row, column in itertools.product(range(size), range(size)):
        cell = mask[y1 + row * height :, x1 + column * width :][:height, :width]
        result[row, column] = cell.float().mean()
    return result


def test_targets_of_whole_cells_are_shares_of_pixels() -> None:
    masks = blobs(2)
    boxes = torch.tensor([[4.0, 8, 32, 36], [0, 0, 42, 14], [6, 26, 48, 40]])
    assigned = torch.tensor([1, 0, 1])
    shares = mask_targets(masks, boxes, assigned, 14, threshold=None)
    expected = torch.stack([plain_target(masks[i], b, 14) for i, b in zip(assigned, boxes.tolist(), strict=True)])
    torch.testing.assert_close(shares, expected, atol=1e-5, rtol=0)


def test_targets_are_thresholded_after_resizing() -> None:
    masks, assigned = blobs(3), torch.arange(len(HOSTILE)) % 3
    targets = mask_targets(masks, HOSTILE, assigned, 14)
    assert set(targets.unique().tolist()) == {0.0, 1.0}
    shares = mask_targets(masks, HOSTILE, assigned, 14, threshold=None)
    assert torch.equal(targets, (shares >= 0.5).float())
    thin = torch.zeros(1, 40, 48, dtype=torch.bool)
    thin[0, :, 7] = True  # one column of four in a cell: nearest resizing would give stripes of 1
    assert not mask_targets(thin, torch.tensor([[4.0, 0, 44, 40]]), torch.tensor([0]), 10).any()


def test_targets_of_nothing() -> None:
    masks = torch.ones(1, 40, 48, dtype=torch.bool)
    assert mask_targets(masks, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 28).shape == (0, 28, 28)
    assert not mask_targets(masks, EMPTY, torch.zeros(3, dtype=torch.int64), 28).any()
    with pytest.raises(IndexError):
        mask_targets(masks, HOSTILE[:1], torch.tensor([1]), 28)


def plain_paste(grid: list[list[float]], box: list[float], height: int, width: int) -> list[list[float]]:
    """Each pixel's center looked up in the grid bilinearly; cells beyond the grid are 0."""
    side, (x1, y1, x2, y2) = len(grid), box
    canvas = [[0.0] * width for _ in range(height)]
    for row, column in itertools.product(range(height), range(width)):
        v = (row + 0.5 - y1) / (y2 - y1) * side - 0.5
        u = (column + 0.5 - x1) / (x2 - x1) * side - 0.5
        for i, j in itertools.product(range(side), range(side)):
            canvas[row][column] += grid[i][j] * max(1 - abs(v - i), 0) * max(1 - abs(u - j), 0)
    return canvas


def test_paste_against_one_pixel_at_a_time() -> None:
    grids = torch.rand(len(HOSTILE), 3, 3, generator=seeded())
    expected = [plain_paste(g, b, 40, 48) for g, b in zip(grids.tolist(), HOSTILE.tolist(), strict=True)]
    torch.testing.assert_close(paste_masks(grids, HOSTILE, 40, 48), torch.tensor(expected), atol=1e-4, rtol=0)


def test_paste_is_grid_sample_over_the_whole_canvas() -> None:
    boxes = any_boxes().double()
    grids = torch.rand(len(boxes), 28, 28, generator=seeded(), dtype=torch.float64)
    y, x = torch.arange(40), torch.arange(48)
    x1, y1, x2, y2 = boxes.unbind(1)
    v = (y + 0.5 - y1[:, None]) / (y2 - y1)[:, None] * 2 - 1  # [d, 40]
    u = (x + 0.5 - x1[:, None]) / (x2 - x1)[:, None] * 2 - 1  # [d, 48]
    places = torch.stack([u[:, None, :].expand(-1, 40, -1), v[:, :, None].expand(-1, -1, 48)], dim=-1)
    expected = F.grid_sample(grids[:, None], places, align_corners=False)[:, 0]
    torch.testing.assert_close(paste_masks(grids, boxes, 40, 48), expected, atol=1e-6, rtol=0)


def test_paste_agrees_with_torchvision_where_it_does_not_round() -> None:
    """torchvision pads the grid by a cell, and rounds the box that goes with that to whole pixels, the last included.

    For a box that is whole with a cell around it, there is nothing to round: both pastes are the same.
    """
    grids = torch.rand(3, 10, 10, generator=seeded())
    whole = torch.tensor([[5.0, 4, 41, 28], [2, 3, 14, 39], [20, 9, 80, 69]])  # with a cell around: 12 cells
    center, half = (whole[:, :2] + whole[:, 2:]) / 2, (whole[:, 2:] - whole[:, :2]) / 2
    ours = paste_masks(grids, torch.cat([center - half * 10 / 12, center + half * 10 / 12], dim=1), 40, 48)
    last = whole - torch.tensor([0.0, 0, 1, 1]) + 0.25  # what torchvision's enlarged boxes truncate to `whole` from
    center, half = (last[:, :2] + last[:, 2:]) / 2, (last[:, 2:] - last[:, :2]) / 2
    theirs = torch.cat([center - half * 10 / 12, center + half * 10 / 12], dim=1)
    expected = paste_masks_in_image(grids[:, None], theirs, (40, 48))[:, 0]
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


def test_paste_of_nothing() -> None:
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), 5, 6).shape == (0, 5, 6)
    assert not paste_masks(torch.ones(3, 28, 28), EMPTY, 40, 48).any()
    assert not paste_masks(torch.ones(2, 28, 28), HOSTILE[4:6], 40, 48).any()


def test_pasting_the_targets_brings_the_mask_back() -> None:
    """Half a pixel of misalignment, or swapped axes, would cost far more than the grid's coarseness."""
    y, x = torch.meshgrid(torch.arange(80) + 0.5, torch.arange(100) + 0.5, indexing="ij")
    ellipse = (((x - 44) / 30) ** 2 + ((y - 41) / 17) ** 2 < 1)[None]
    box = torch.tensor([[14.0, 24, 74, 58]])
    grid = mask_targets(ellipse, box, torch.tensor([0]), 28, threshold=None)
    pasted = paste_masks(grid, box, 80, 100) >= 0.5
    assert (ellipse & pasted).sum() / (ellipse | pasted).sum() > 0.985

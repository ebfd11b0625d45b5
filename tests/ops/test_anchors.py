"""Anchors: their areas and ratios, and the order in which they meet a head's output."""

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from src.ops.anchors import PYRAMID_STRIDES, cell_anchors, grid_anchors, pyramid_anchors, size_ratio_anchors


def test_cell_anchors_are_centered_at_zero() -> None:
    assert cell_anchors([(40.0, 20.0), (3, 5)]).tolist() == [[-20, -10, 20, 10], [-1.5, -2.5, 1.5, 2.5]]


@pytest.mark.parametrize("size", [(0.0, 5.0), (5.0, -1.0)])
def test_cell_anchors_refuse_empty_boxes(size: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        cell_anchors([size])


def test_size_and_ratio_are_root_of_area_and_height_over_width() -> None:
    anchors = size_ratio_anchors(64, [0.5, 1.0, 2.0])
    width, height = (anchors[:, 2:] - anchors[:, :2]).unbind(1)
    torch.testing.assert_close((width * height).sqrt(), torch.full((3,), 64.0))
    torch.testing.assert_close(height / width, torch.tensor([0.5, 1.0, 2.0]))


@pytest.mark.parametrize(("stride", "vertical", "horizontal"), [(16, 16, 16), ((61, 64), 61, 64)])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_grid_against_a_plain_loop(
    stride: int | tuple[int, int], vertical: int, horizontal: int, offset: float
) -> None:
    cell = size_ratio_anchors(32, [0.5, 2.0])
    expected = []
    for row in range(3):
        for column in range(4):
            for x1, y1, x2, y2 in cell.tolist():
                x, y = horizontal * (column + offset), vertical * (row + offset)
                expected.append([x1 + x, y1 + y, x2 + x, y2 + y])
    torch.testing.assert_close(grid_anchors(cell, 3, 4, stride, offset), torch.tensor(expected))


def test_a_head_output_meets_its_anchors() -> None:
    """Channel a at (row, column) of a [A, h, w] map belongs to cell anchor a shifted there."""
    cell = size_ratio_anchors(32, [0.5, 1.0, 2.0])
    output = torch.zeros(3, 5, 7)
    output[2, 4, 1] = 1
    found = grid_anchors(cell, 5, 7, 8)[output.permute(1, 2, 0).reshape(-1).argmax()]
    torch.testing.assert_close(found, cell[2] + torch.tensor([8.0, 32, 8, 32]))


def test_torchvision_rounds_but_places_alike() -> None:
    theirs = AnchorGenerator(((64,),), ((0.5, 1.0, 2.0),))
    images = ImageList(torch.zeros(1, 3, 32, 48), [(32, 48)])
    expected = theirs(images, [torch.zeros(1, 8, 4, 6)])[0]
    found = grid_anchors(size_ratio_anchors(64, [0.5, 1.0, 2.0]).round(), 4, 6, 8)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("canvas", [(128, 192), (100, 132)])  # of the second, no stride above 4 divides both sides
def test_a_pyramid_s_anchors_are_torchvision_s(canvas: tuple[int, int]) -> None:
    sizes, ratios = (32.0, 64.0, 128.0, 256.0, 512.0), (0.5, 1.0, 2.0)
    grids = tuple((-(-canvas[0] // stride), -(-canvas[1] // stride)) for stride in PYRAMID_STRIDES)
    generator = AnchorGenerator(tuple((size,) for size in sizes), (ratios,) * 5)
    expected = generator(ImageList(torch.zeros(1, 3, *canvas), [canvas]), [torch.zeros(1, 8, *grid) for grid in grids])
    found = pyramid_anchors(sizes, ratios, canvas, grids)
    assert [len(level) for level in found] == [3 * height * width for height, width in grids]
    assert torch.equal(torch.cat(found), expected[0])


def test_an_empty_grid_has_no_anchors() -> None:
    assert grid_anchors(size_ratio_anchors(8, [1]), 0, 5, 4).shape == (0, 4)

"""Objects smaller than any anchor: none is left without one that learns it, wherever it is."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from src.ops.anchors import cell_anchors, grid_anchors, pyramid_anchors
from src.ops.boxes import box_iou, is_inside
from src.ops.matching import EVERYWHERE, IGNORED, MatchThresholds, label_anchors

THRESHOLDS = MatchThresholds(0.7, 0.3)
HEIGHT, WIDTH = 320, 448

side = st.floats(1, 8, width=32)
place = st.floats(0, 1, width=32)


@st.composite
def tiny_boxes(draw: st.DrawFn) -> Tensor:
    """One box of 1 to 8 pixels a side, anywhere in the picture, its corners and borders included."""
    sides = torch.tensor([draw(side), draw(side)])
    corner = torch.tensor([draw(place), draw(place)]) * (torch.tensor([WIDTH, HEIGHT]) - sides)
    return torch.cat([corner, corner + sides])[None]


def pyramid() -> Tensor:
    """Part (b)'s anchors over P2 to P6, of which those across the border take part."""
    grids = tuple((HEIGHT // stride, WIDTH // stride) for stride in (4, 8, 16, 32, 64))
    return torch.cat(pyramid_anchors((32, 64, 128, 256, 512), (0.5, 1.0, 2.0), (HEIGHT, WIDTH), grids))


@given(tiny_boxes())
def test_a_tiny_box_gets_its_best_anchors_of_the_pyramid(box: Tensor) -> None:
    anchors = pyramid()
    iou = box_iou(box, anchors)[0]
    labels = label_anchors(anchors, box, EVERYWHERE, THRESHOLDS)
    assert iou.max() < THRESHOLDS.low
    assert (labels == 0).any()
    assert torch.equal(labels == 0, iou == iou.max())


@pytest.mark.parametrize("sizes", [[(64.0, 64.0)], [(30.0, 90.0), (150.0, 60.0)]])
@given(box=tiny_boxes())
def test_a_tiny_box_gets_an_anchor_of_part_a_where_one_inside_the_picture_meets_it(
    sizes: list[tuple[float, float]], box: Tensor
) -> None:
    """Part (a) leaves out anchors across the border: a strip along it may be covered by none."""
    anchors = grid_anchors(cell_anchors(sizes), HEIGHT // 32, WIDTH // 32, 32, offset=0.5)
    picture = (0.0, 0.0, float(WIDTH), float(HEIGHT))
    inside = is_inside(anchors, picture)
    labels = label_anchors(anchors, box, picture, THRESHOLDS)
    assert bool((labels == 0).any()) == bool((box_iou(box, anchors[inside]) > 0).any())
    assert (labels[~inside] == IGNORED).all()

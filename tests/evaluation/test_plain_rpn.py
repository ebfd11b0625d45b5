"""Part (a)'s test results from outputs that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from src.data.letterbox import Letterbox
from src.data.prepared import Example
from src.evaluation.plain_rpn import TestResult, add_image, make_proposals, metrics
from src.ops.anchors import cell_anchors, grid_anchors
from src.ops.boxes import box_iou, encode, is_inside
from src.ops.matching import IGNORED, NEGATIVE, MatchThresholds
from src.plain_rpn.anchor_grid import AnchorGrid
from src.plain_rpn.statistics import anchors_from_modes, box_statistics

ROWS, COLUMNS = 6, 8
CONTENT = (11.0, 0.0, 117.0, 96.0)  # 11 columns of padding on either side of a canvas of 128 x 96
RULES = MatchThresholds(high=0.7, low=0.3)
BOX = torch.tensor([[30.0, 22.0, 62.0, 58.0]])


@pytest.fixture
def grid() -> AnchorGrid:
    anchors = grid_anchors(cell_anchors([(32, 32)]), ROWS, COLUMNS, 16, offset=0.5)
    return AnchorGrid(anchors, ROWS, COLUMNS, CONTENT, RULES)


def example_with(boxes: torch.Tensor, crowd: list[bool] | None = None) -> Example:
    count = len(boxes)
    return Example(
        index=0,
        name="test",
        image=torch.zeros(3, 16 * ROWS, 16 * COLUMNS, dtype=torch.uint8),
        boxes=boxes,
        labels=torch.ones(count, dtype=torch.int64),
        masks=torch.zeros(0, 16 * ROWS, 16 * COLUMNS, dtype=torch.bool),
        crowd=torch.tensor(crowd or [False] * count, dtype=torch.bool),
        unlabeled_boxes=torch.zeros(0, 4),
        unlabeled_labels=torch.zeros(0, dtype=torch.int64),
    )


def perfect_outputs(grid: AnchorGrid, matches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the right sign, and deltas that move every anchor onto the one object."""
    logits = torch.where(matches >= 0, 3.0, -3.0)
    return logits, encode(BOX.expand(len(grid.anchors), 4), grid.anchors)


def test_anchors_across_the_picture_s_border_are_left_out_though_the_canvas_goes_on(grid: AnchorGrid) -> None:
    matches = grid.label(example_with(BOX)).reshape(ROWS, COLUMNS)
    # Anchors of 32 pixels at centers 8, 24, ...: column 1 spans 8 to 40, inside the canvas but not the picture.
    assert (matches[:, 1] < NEGATIVE).all()
    assert (matches[1:-1, 2:-2] >= NEGATIVE).any()
    assert (matches[0] < NEGATIVE).all()


def test_fractions_of_a_pixel_decide_labels() -> None:
    anchors = grid_anchors(cell_anchors([(32, 32), (32, 23)]), ROWS, COLUMNS, 16, offset=0.5)
    grid = AnchorGrid(anchors, ROWS, COLUMNS, CONTENT, RULES)
    box, crowd = torch.tensor([[24, 29, 56, 51.5], [72, 24, 104, 40.5]])
    square, best = box_iou(box[None], grid.at(2, 2))[0].tolist()
    assert 22 / 32 < RULES.high <= square < best  # 22 of 32 rows without the fraction
    matches = grid.label(example_with(torch.stack([box, crowd]), [False, True])).reshape(ROWS, COLUMNS, 2)
    assert matches[2, 2].tolist() == [0, 0]
    assert int(matches[2, 5, 0]) == IGNORED  # 16.5 of 32 rows are the crowd's
    assert int(matches[3, 5, 0]) == NEGATIVE


def test_all_anchors_inside_a_large_object_get_one_label() -> None:
    sizes = anchors_from_modes(box_statistics(np.array([[0, 0, 137.3, 121.9]]), 24, (1066, 800)), 1, (1050, 784))
    letterbox = Letterbox(800, 1066, 1088, 300, 400)
    full = AnchorGrid(
        grid_anchors(cell_anchors(sizes.tolist()), 50, 68, 16, offset=0.5), 50, 68, letterbox.content, RULES
    )
    box = torch.tensor([[61.37, 43.11, 987.65, 791.23]])
    inside = is_inside(full.anchors, box[0])
    assert inside.sum() > 1000
    assert box_iou(box, full.anchors[inside]).max() < 0.3  # negative, but for being the best there is
    assert (full.label(example_with(box))[inside] == 0).all()


def test_a_perfect_network_gets_perfect_marks(grid: AnchorGrid) -> None:
    example = example_with(BOX)
    result = TestResult()
    add_image(result, grid, example, *perfect_outputs(grid, grid.label(example)))
    facts = metrics(result, field_side=34)
    assert (facts["accuracy"], facts["natural_accuracy"]) == (1, 1)
    assert facts["regression_iou"] == pytest.approx(1, abs=1e-5)
    assert facts["smooth_l1"] == pytest.approx(0, abs=1e-6)
    assert facts["anchor_iou"] == pytest.approx(float(box_iou(BOX, grid.anchors).max()))
    assert facts["recall"]["10"] == 1
    assert facts["boxes_larger_than_field"] == 1  # 36 pixels high
    assert sum(facts["anchor_counts"].values()) == ROWS * COLUMNS


def test_a_network_that_says_nothing_is_half_right(grid: AnchorGrid) -> None:
    result = TestResult()
    add_image(result, grid, example_with(BOX), torch.full((48,), -1.0), torch.zeros(48, 4))
    facts = metrics(result, field_side=40)
    assert (facts["accuracy"], facts["accuracy_positive"], facts["accuracy_negative"]) == (0.5, 0, 1)
    assert facts["natural_accuracy"] > 0.5
    assert facts["boxes_larger_than_field"] == 0


def test_crowds_are_no_objects_and_no_background(grid: AnchorGrid) -> None:
    boxes = torch.cat([BOX, torch.tensor([[70.0, 10.0, 117.0, 96.0]])])
    matches = grid.label(example_with(boxes, [False, True]))
    share = box_iou(boxes[1:], grid.anchors)[0]
    assert (matches[share > 0.25] < NEGATIVE).any()
    assert set(matches[matches >= 0].tolist()) == {0}


def test_images_without_objects_leave_undefined_what_is_undefined(grid: AnchorGrid) -> None:
    result = TestResult()
    add_image(result, grid, example_with(torch.zeros(0, 4)), torch.full((48,), -1.0), torch.zeros(48, 4))
    facts = metrics(result, field_side=40)
    assert facts["accuracy"] is None
    assert facts["accuracy_negative"] == 1
    assert facts["regression_iou"] is None
    assert facts["recall"]["10"] is None
    assert facts["boxes_larger_than_field"] is None


def test_proposals_are_ordered_clipped_apart_and_never_empty(grid: AnchorGrid) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(48, generator=draw)
    deltas = torch.randn(48, 4, generator=draw)
    deltas[5] = torch.tensor([9.0, 9.0, 0.0, 0.0])  # far outside the picture
    found = make_proposals(logits, deltas, grid, most=20)
    assert 0 < len(found.boxes) <= 20
    assert (found.scores.diff() <= 0).all()
    assert 5 not in found.anchors.tolist()
    assert (found.boxes[:, 0] >= 11).all()
    assert (found.boxes[:, 2] <= 117).all()
    overlap = box_iou(found.boxes, found.boxes).fill_diagonal_(0)
    assert overlap.max() <= 0.7 + 1e-6
    torch.testing.assert_close(found.scores, logits[found.anchors].sigmoid())

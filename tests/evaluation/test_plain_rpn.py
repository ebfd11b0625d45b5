"""Part (a)'s test results from outputs that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from src.data.letterbox import Letterbox
from src.evaluation.plain_rpn import TestResult, add_image, metrics
from src.ops.anchors import cell_anchors, grid_anchors
from src.ops.boxes import box_iou, clip, decode, encode, is_inside
from src.ops.matching import IGNORED, NEGATIVE
from src.plain_rpn import detector
from src.plain_rpn.anchor_grid import AnchorGrid
from src.plain_rpn.detector import MIN_SIZE, propose
from src.plain_rpn.statistics import anchors_from_modes, box_statistics
from tests.evaluation.grids import BOX, COLUMNS, REGION, ROWS, THRESHOLDS, example_with, small_grid, target_of


@pytest.fixture
def grid() -> AnchorGrid:
    return small_grid()


def perfect_outputs(grid: AnchorGrid, matches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the right sign, and deltas that move every anchor onto the one object."""
    logits = torch.where(matches >= 0, 3.0, -3.0)
    return logits, encode(BOX.expand(len(grid.anchors), 4), grid.anchors)


def test_anchors_across_the_picture_s_border_are_left_out_though_the_canvas_goes_on(grid: AnchorGrid) -> None:
    matches = grid.label(target_of(BOX), REGION).reshape(ROWS, COLUMNS)
    # Anchors of 32 pixels at centers 8, 24, ...: column 1 spans 8 to 40, inside the canvas but not the picture.
    assert (matches[:, 1] < NEGATIVE).all()
    assert (matches[1:-1, 2:-2] >= NEGATIVE).any()
    assert (matches[0] < NEGATIVE).all()


def test_fractions_of_a_pixel_decide_labels() -> None:
    anchors = grid_anchors(cell_anchors([(32, 32), (32, 23)]), ROWS, COLUMNS, 16, offset=0.5)
    grid = AnchorGrid(anchors, ROWS, COLUMNS, THRESHOLDS)
    box, crowd = torch.tensor([[24, 29, 56, 51.5], [72, 24, 104, 40.5]])
    square, best = box_iou(box[None], grid.at(2, 2))[0].tolist()
    assert 22 / 32 < THRESHOLDS.high <= square < best  # 22 of 32 rows without the fraction
    matches = grid.label(target_of(box[None], crowd[None]), REGION).reshape(ROWS, COLUMNS, 2)
    assert matches[2, 2].tolist() == [0, 0]
    assert int(matches[2, 5, 0]) == IGNORED  # 16.5 of 32 rows are the crowd's
    assert int(matches[3, 5, 0]) == NEGATIVE


def test_all_anchors_inside_a_large_object_get_one_label() -> None:
    sizes = anchors_from_modes(box_statistics(np.array([[0, 0, 137.3, 121.9]]), 24, (1066, 800)), 1, (1050, 784))
    letterbox = Letterbox(800, 1066, 1088, 300, 400)
    full = AnchorGrid(grid_anchors(cell_anchors(sizes.tolist()), 50, 68, 16, offset=0.5), 50, 68, THRESHOLDS)
    box = torch.tensor([[61.37, 43.11, 987.65, 791.23]])
    inside = is_inside(full.anchors, box[0])
    assert inside.sum() > 1000
    assert box_iou(box, full.anchors[inside]).max() < 0.3  # negative, but for being the best there is
    assert (full.label(target_of(box), letterbox.region)[inside] == 0).all()


def test_a_perfect_network_gets_perfect_marks(grid: AnchorGrid) -> None:
    example = example_with(BOX)
    result = TestResult()
    add_image(result, grid, example, *perfect_outputs(grid, grid.label(example.target, REGION)))
    facts = metrics(result, field_side=34)
    assert (facts["balanced_accuracy"], facts["accuracy"]) == (1, 1)
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
    assert (facts["balanced_accuracy"], facts["accuracy_positive"], facts["accuracy_negative"]) == (0.5, 0, 1)
    assert facts["accuracy"] > 0.5
    assert facts["boxes_larger_than_field"] == 0


def test_crowds_are_no_objects_and_no_background(grid: AnchorGrid) -> None:
    crowd = torch.tensor([[70.0, 10.0, 117.0, 96.0]])
    matches = grid.label(target_of(BOX, crowd), REGION)
    share = box_iou(crowd, grid.anchors)[0]
    assert (matches[share > 0.25] < NEGATIVE).any()
    assert set(matches[matches >= 0].tolist()) == {0}


def test_images_without_objects_leave_undefined_what_is_undefined(grid: AnchorGrid) -> None:
    result = TestResult()
    add_image(result, grid, example_with(torch.zeros(0, 4)), torch.full((48,), -1.0), torch.zeros(48, 4))
    facts = metrics(result, field_side=40)
    assert facts["balanced_accuracy"] is None
    assert facts["accuracy_negative"] == 1
    assert facts["regression_iou"] is None
    assert facts["recall"]["10"] is None
    assert facts["boxes_larger_than_field"] is None


def test_proposals_are_ordered_clipped_apart_and_never_empty(grid: AnchorGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(48, generator=draw)
    deltas = torch.randn(48, 4, generator=draw)
    deltas[5] = torch.tensor([9.0, 9.0, 0.0, 0.0])  # far outside the picture
    assert len(propose(logits, deltas, grid, REGION).boxes) > 20
    monkeypatch.setattr(detector, "MOST", 20)
    found = propose(logits, deltas, grid, REGION)
    assert len(found.boxes) == 20
    assert (found.scores.diff() <= 0).all()
    assert (found.boxes[:, 0] >= 11).all()
    assert (found.boxes[:, 2] <= 117).all()
    assert (found.boxes[:, 2:] - found.boxes[:, :2] >= MIN_SIZE).all()
    overlap = box_iou(found.boxes, found.boxes).fill_diagonal_(0)
    assert overlap.max() <= 0.7 + 1e-6
    anchors = (found.scores[:, None] == logits.sigmoid()).nonzero()[:, 1]  # which anchor each came from
    assert 5 not in anchors.tolist()
    torch.testing.assert_close(found.boxes, clip(decode(deltas, grid.anchors), REGION)[anchors])

"""Matching: the assignment's truth table, ties, and parity with torchvision's Matcher."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import Matcher

from src.ops.anchors import cell_anchors, grid_anchors
from src.ops.boxes import box_iou
from src.ops.matching import EVERYWHERE, IGNORED, NEGATIVE, MatchThresholds, label_anchors, match, match_rois

THRESHOLDS = MatchThresholds(0.7, 0.3)
CANVAS = (0.0, 0.0, 200.0, 100.0)


def plain_match(iou: list[list[float]], high: float, low: float, force_best: bool) -> list[int]:
    result = []
    for column in zip(*iou, strict=True):
        nearest = column.index(max(column))
        is_best = any(v == max(row) and v > 0 for row, v in zip(iou, column, strict=True))
        if max(column) >= high or (force_best and is_best):
            result.append(nearest)
        else:
            result.append(NEGATIVE if max(column) < low else IGNORED)
    return result


@pytest.mark.parametrize(
    ("iou", "expected"),
    [
        ([[0.8, 0.1, 0.5], [0.2, 0.2, 0.6]], [0, NEGATIVE, 1]),  # the docstring's example
        ([[0.9, 0.7, 0.69, 0.3, 0.29]], [0, 0, IGNORED, IGNORED, NEGATIVE]),  # each threshold's own side
        ([[0.2, 0.1]], [0, NEGATIVE]),  # the best is positive below the negative threshold
        ([[0.5, 0.5, 0.1]], [0, 0, NEGATIVE]),  # all anchors that share the best
        ([[0.8, 0.8], [0.8, 0.1]], [0, 0]),  # two boxes alike on an anchor: the first
        ([[0.9, 0.1], [0.6, 0.5]], [0, IGNORED]),  # box 1's best anchor stays with box 0, which it overlaps more
        ([[0.0, 0.0, 0.0]], [NEGATIVE] * 3),  # a box that meets no anchor forces none
        ([[0.0, 0.0, 0.0], [0.8, 0.1, 0.1]], [1, NEGATIVE, NEGATIVE]),  # nor beside a box that meets some
    ],
)
def test_truth_table(iou: list[list[float]], expected: list[int]) -> None:
    assert match(torch.tensor(iou), 0.7, 0.3, force_best=True).tolist() == expected
    assert plain_match(iou, 0.7, 0.3, force_best=True) == expected


def test_without_forcing_a_poor_best_is_negative() -> None:
    assert match(torch.tensor([[0.2, 0.1]]), 0.7, 0.3, force_best=False).tolist() == [NEGATIVE, NEGATIVE]


def test_one_threshold_leaves_no_gray_zone() -> None:
    assert match(torch.tensor([[0.5, 0.49, 0.51]]), 0.5, 0.5, force_best=False).tolist() == [0, NEGATIVE, 0]


tenths = st.integers(1, 10).map(lambda tenth: tenth / 10)  # ties and thresholds are met often


def matrices(iou: st.SearchStrategy[float]) -> st.SearchStrategy[list[list[float]]]:
    return st.integers(1, 4).flatmap(
        lambda columns: st.lists(st.lists(iou, min_size=columns, max_size=columns), min_size=1, max_size=4)
    )


@given(matrices(st.just(0.0) | tenths), st.booleans())
def test_any_overlaps_against_plain_loops(iou: list[list[float]], force_best: bool) -> None:
    assert match(torch.tensor(iou), 0.7, 0.3, force_best).tolist() == plain_match(iou, 0.7, 0.3, force_best)


@given(matrices(tenths), st.booleans())
def test_parity_with_torchvision_ties_included(iou: list[list[float]], force_best: bool) -> None:
    """Without IoU 0, at which torchvision's rule is another one."""
    found = match(torch.tensor(iou), 0.7, 0.3, force_best)
    assert torch.equal(found, Matcher(0.7, 0.3, allow_low_quality_matches=force_best)(torch.tensor(iou)))


def test_no_ground_truth_and_no_anchors() -> None:
    assert match(torch.zeros(0, 3), 0.7, 0.3, force_best=True).tolist() == [NEGATIVE] * 3
    assert match(torch.zeros(2, 0), 0.7, 0.3, force_best=True).tolist() == []
    assert match(torch.zeros(0, 0), 0.7, 0.3, force_best=True).tolist() == []


def grid(side: float = 40.0) -> Tensor:
    return grid_anchors(cell_anchors([(side, side)]), 10, 20, 10)


def test_anchors_across_the_border_are_ignored_before_the_best_is_sought() -> None:
    """The best anchor of a box in the corner crosses the border: the best of the others takes it."""
    anchors, box, content = grid(), torch.tensor([[4.0, 4, 42, 42]]), (4.0, 4.0, 196.0, 96.0)
    assert anchors[box_iou(box, anchors)[0].argmax()].tolist() == [0, 0, 40, 40]
    labels = label_anchors(anchors, box, content, THRESHOLDS)
    crossing = (anchors[:, 0] < 4) | (anchors[:, 1] < 4) | (anchors[:, 2] > 196) | (anchors[:, 3] > 96)
    assert (labels[crossing] == IGNORED).all()
    assert anchors[labels == 0].tolist() == [[10, 10, 50, 50]]


def test_every_ground_truth_smaller_than_any_anchor_gets_one() -> None:
    boxes = torch.tensor([[50.0, 50, 54, 53], [100, 20, 103, 22]])
    labels = label_anchors(grid(), boxes, CANVAS, THRESHOLDS)
    assert box_iou(boxes, grid()).max() < 0.3
    assert set(labels[labels >= 0].tolist()) == {0, 1}


def test_labels_against_the_rule_in_plain_loops() -> None:
    anchors = grid(30.0)
    boxes = torch.tensor([[22.0, 18, 55, 46], [100, 30, 160, 90], [58, 21, 88, 51]])
    iou, labels = box_iou(boxes, anchors), label_anchors(anchors, boxes, CANVAS, THRESHOLDS)
    inside = [x1 >= 0 and y1 >= 0 and x2 <= 200 and y2 <= 100 for x1, y1, x2, y2 in anchors.tolist()]
    best = [max(v for v, keep in zip(row, inside, strict=True) if keep) for row in iou.tolist()]
    for number, column in enumerate(iou.T.tolist()):
        positive = max(column) >= 0.7 or any(v == top for v, top in zip(column, best, strict=True))
        expected = column.index(max(column)) if positive else NEGATIVE if max(column) < 0.3 else IGNORED
        assert labels[number] == (expected if inside[number] else IGNORED)


def test_an_empty_picture_has_negatives_only() -> None:
    labels = label_anchors(grid(), torch.zeros(0, 4), CANVAS, THRESHOLDS)
    assert set(labels.tolist()) == {NEGATIVE, IGNORED}
    assert (labels == NEGATIVE).sum() == 7 * 17


def test_a_picture_smaller_than_the_anchors_has_none() -> None:
    labels = label_anchors(grid(), torch.tensor([[2.0, 2, 8, 8]]), (0, 0, 30, 30), THRESHOLDS)
    assert (labels == IGNORED).all()


def test_crowds_hide_negatives_but_no_positives() -> None:
    box, crowd = torch.tensor([[80.0, 30, 120, 70]]), torch.tensor([[60.0, 0.0, 200.0, 100.0]])
    plain = label_anchors(grid(), box, CANVAS, THRESHOLDS)
    hidden = label_anchors(grid(), box, CANVAS, THRESHOLDS, ignore=crowd)
    inside_crowd = (grid()[:, 0] + grid()[:, 2]) / 2 > 60  # more than half of such an anchor is in the crowd
    assert torch.equal(hidden >= 0, plain >= 0)
    assert not ((hidden == NEGATIVE) & inside_crowd).any()
    assert torch.equal(hidden[~inside_crowd], plain[~inside_crowd])
    assert torch.equal(label_anchors(grid(), box, CANVAS, THRESHOLDS, ignore=torch.zeros(0, 4)), plain)


@pytest.mark.parametrize(("high", "low"), [(0.3, 0.7), (1.2, 0.3), (0.5, -0.1)])
def test_thresholds_are_checked(high: float, low: float) -> None:
    with pytest.raises(ValueError, match="low <= high"):
        MatchThresholds(high, low)


def test_nothing_crosses_the_border_of_everywhere() -> None:
    """The RPN over the FPN trains on anchors across the picture's border too."""
    anchors = torch.tensor([[-40.0, -40, 40, 40], [90, 90, 2000, 3000], [10, 10, 50, 50]])
    labels = label_anchors(anchors, torch.tensor([[-38.0, -40, 40, 38]]), EVERYWHERE, THRESHOLDS)
    assert labels.tolist() == [0, NEGATIVE, NEGATIVE]


Box = tuple[int, int, int, int]


def area(box: Box) -> int:
    x1, y1, x2, y2 = box
    return max(x2 - x1, 0) * max(y2 - y1, 0)


def overlap(a: Box, b: Box) -> int:
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def plain_match_rois(rois: list[Box], boxes: list[Box], crowd: list[Box], fg_iou_thresh: float) -> list[int]:
    """Task 14's rule, RoI by RoI. Whole pixels, so that thresholds of a half and a quarter are met exactly."""
    result = []
    for roi in rois:
        shares = [overlap(roi, box) / (area(roi) + area(box) - overlap(roi, box)) for box in boxes]
        if shares and max(shares) >= fg_iou_thresh:
            result.append(shares.index(max(shares)))
        elif any(2 * overlap(roi, region) > area(roi) for region in crowd):
            result.append(IGNORED)
        else:
            result.append(NEGATIVE)
    return result


sides = st.tuples(st.integers(0, 6), st.integers(1, 6)).map(lambda side: (side[0], side[0] + side[1]))
plain_boxes = st.tuples(sides, sides).map(lambda box: (box[0][0], box[1][0], box[0][1], box[1][1]))


def stack(boxes: list[Box]) -> Tensor:
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


@given(
    rois=st.lists(plain_boxes, max_size=8),
    boxes=st.lists(plain_boxes, max_size=4),
    crowd=st.lists(plain_boxes, max_size=2),
    fg_iou_thresh=st.sampled_from([0.25, 0.5, 0.75, 1.0]),
)
def test_rois_against_plain_loops(rois: list[Box], boxes: list[Box], crowd: list[Box], fg_iou_thresh: float) -> None:
    found = match_rois(stack(rois), stack(boxes), stack(crowd), fg_iou_thresh)
    assert found.dtype == torch.int64
    assert found.tolist() == plain_match_rois(rois, boxes, crowd, fg_iou_thresh)


def test_a_roi_is_object_or_background_with_nothing_between() -> None:
    rois = stack([(0, 0, 10, 10), (0, 0, 10, 5), (0, 0, 10, 4), (50, 50, 60, 60)])
    assert match_rois(rois, rois[:1], torch.zeros(0, 4), 0.5).tolist() == [0, 0, NEGATIVE, NEGATIVE]
    # Nor does an object force a RoI that it overlaps best, as it does an anchor.
    assert match_rois(rois[2:], rois[:1], torch.zeros(0, 4), 0.5).tolist() == [NEGATIVE, NEGATIVE]


def test_a_roi_mostly_in_a_crowd_is_no_background_but_may_be_an_object() -> None:
    crowd = stack([(0, 0, 20, 20)])
    rois = stack([(0, 0, 10, 10), (10, 10, 20, 20), (15, 0, 25, 10), (14, 0, 24, 10), (40, 40, 50, 50)])
    found = match_rois(rois, rois[:1], crowd, 0.5)
    assert found.tolist() == [0, IGNORED, NEGATIVE, IGNORED, NEGATIVE]  # half of the third lies in it, no more


def test_no_rois_no_objects_and_neither() -> None:
    nothing, boxes = torch.zeros(0, 4), stack([(0, 0, 10, 10), (5, 5, 9, 9)])
    assert match_rois(nothing, boxes, boxes, 0.5).tolist() == []
    assert match_rois(boxes, nothing, nothing, 0.5).tolist() == [NEGATIVE, NEGATIVE]
    assert match_rois(boxes, nothing, boxes[:1], 0.5).tolist() == [IGNORED, IGNORED]
    assert match_rois(nothing, nothing, nothing, 0.5).tolist() == []

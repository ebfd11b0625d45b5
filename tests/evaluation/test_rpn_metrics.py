"""RPN accuracy, regression quality and proposal recall by hand and against plain loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from src.evaluation.rpn_metrics import (
    RegressionQuality,
    RpnAccuracy,
    paired_iou,
    proposal_recall,
    regression_quality,
    rpn_accuracy,
)
from src.ops.boxes import encode
from src.ops.matching import IGNORED, NEGATIVE


def test_accuracy_by_hand():
    logits = torch.tensor([2.0, -1.0, 0.5, -3.0, 4.0, -0.1, 9.0, 0.0])
    matches = torch.tensor([0, 0, NEGATIVE, NEGATIVE, 3, NEGATIVE, IGNORED, NEGATIVE])
    counts = rpn_accuracy(logits, matches)
    assert counts == RpnAccuracy(positive=3, negative=4, positive_correct=2, negative_correct=3)
    assert counts.balanced_accuracy == pytest.approx((2 / 3 + 3 / 4) / 2)
    assert counts.accuracy == pytest.approx(5 / 7)
    assert counts.as_metrics()["labeled_positive"] == 3


def test_accuracy_is_one_to_one_however_rare_positives_are():
    matches = torch.cat([torch.zeros(1, dtype=torch.int64), torch.full((999,), NEGATIVE)])
    blind = rpn_accuracy(torch.full((1000,), -5.0), matches)
    assert (blind.balanced_accuracy, blind.accuracy) == (0.5, 0.999)


def test_sums_over_images_are_not_means_of_means():
    first = rpn_accuracy(torch.tensor([1.0]), torch.tensor([0]))
    second = rpn_accuracy(torch.tensor([-1.0, -1.0, -1.0]), torch.tensor([0, 1, 2]))
    assert sum([first, second], RpnAccuracy()).accuracy_positive == 0.25


def test_undefined_accuracy_is_none():
    only_negative = rpn_accuracy(torch.tensor([-1.0, 1.0]), torch.tensor([NEGATIVE, NEGATIVE]))
    assert (only_negative.accuracy_negative, only_negative.accuracy) == (0.5, 0.5)
    assert only_negative.balanced_accuracy is None
    assert only_negative.accuracy_positive is None
    assert set(rpn_accuracy(torch.zeros(0), torch.zeros(0, dtype=torch.int64)).as_metrics().values()) == {None, 0}


ANCHORS = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 60]])
TARGETS = torch.tensor([[0.0, 0, 10, 20], [20, 20, 40, 60]])


def test_a_perfect_regressor():
    quality = regression_quality(encode(TARGETS, ANCHORS), ANCHORS, TARGETS)
    assert quality.regression_iou == pytest.approx(1.0)
    assert quality.anchor_iou == pytest.approx((0.5 + 1.0) / 2)
    assert quality.smooth_l1 == pytest.approx(0.0)


def test_a_regressor_that_says_nothing():
    quality = regression_quality(torch.zeros(2, 4), ANCHORS, TARGETS)
    assert quality.regression_iou == quality.anchor_iou == pytest.approx(0.75)
    # First anchor: t_y = 5 / 10, t_h = log 2; both below 1, so half their squares; second: nothing.
    assert quality.smooth_l1 == pytest.approx((0.5 * 0.5**2 + 0.5 * math.log(2) ** 2) / 2)
    far = regression_quality(torch.tensor([[3.0, 0, 0, 0]]), ANCHORS[:1], ANCHORS[:1])
    assert far.smooth_l1 == pytest.approx(2.5)  # |x| - 0.5 beyond 1


def test_regression_sums_and_nothing():
    first = regression_quality(torch.zeros(1, 4), ANCHORS[:1], TARGETS[:1])
    both = regression_quality(torch.zeros(2, 4), ANCHORS, TARGETS)
    assert vars(first + regression_quality(torch.zeros(1, 4), ANCHORS[1:], TARGETS[1:])) == pytest.approx(vars(both))
    empty = regression_quality(torch.zeros(0, 4), torch.zeros(0, 4), torch.zeros(0, 4))
    assert empty == RegressionQuality()
    assert set(empty.as_metrics().values()) == {None}


corner = st.integers(0, 12)


@given(st.lists(st.tuples(*[corner] * 8), max_size=8))
def test_paired_iou_is_the_diagonal(rows):
    pairs = torch.tensor(rows, dtype=torch.float32).reshape(-1, 2, 4)
    boxes = torch.cat([pairs[..., :2], pairs[..., :2] + pairs[..., 2:]], -1)
    expected = box_iou(boxes[:, 0], boxes[:, 1]).diagonal().nan_to_num(0.0)
    torch.testing.assert_close(paired_iou(boxes[:, 0], boxes[:, 1]), expected)


def test_recall_by_hand():
    objects = [torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), torch.tensor([[0.0, 0, 10, 10]]), torch.zeros(0, 4)]
    good, half, poor = [0.0, 0, 10, 10], [0.0, 0, 5, 10], [0.0, 0, 4, 10]
    proposals = [
        torch.tensor([poor, half, [20, 20, 30, 29]]),
        torch.tensor([poor, poor, poor, good]),
        torch.tensor([good]),
    ]
    recall = proposal_recall(proposals, objects, counts=(1, 2, 3, 100))
    assert recall == {"1": 0.0, "2": pytest.approx(1 / 3), "3": pytest.approx(2 / 3), "100": 1.0}
    assert proposal_recall(proposals, objects, counts=(100,), iou=0.95) == {"100": pytest.approx(1 / 3)}


def test_two_proposals_on_one_object_find_one_object():
    objects = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    assert proposal_recall([objects[[0, 0, 0]]], [objects], counts=(10,)) == {"10": 0.5}
    assert proposal_recall([objects[:1]], [objects[[0, 0]]], counts=(10,)) == {"10": 1.0}


def test_recall_without_objects_or_proposals():
    assert set(proposal_recall([torch.rand(3, 4)], [torch.zeros(0, 4)]).values()) == {None}
    nothing = proposal_recall([torch.zeros(0, 4)], [torch.tensor([[0.0, 0, 1, 1]])])
    assert nothing == dict.fromkeys(["10", "50", "100", "200", "1000"], 0.0)
    with pytest.raises(ValueError, match="zip"):
        proposal_recall([], [torch.zeros(0, 4)])

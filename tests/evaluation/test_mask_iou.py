"""Mean mask IoU by hand."""

import pytest

from src.evaluation.instances import Instances
from src.evaluation.mask_iou import MaskIou, mean_mask_iou
from tests.evaluation.scenes import as_boxes, found, truth


def with_masks(boxes, masks_of, labels, scores):
    """Instances whose masks are those of other boxes."""
    one = found(masks_of, labels, scores)
    return Instances(as_boxes(boxes), one.labels, one.scores, one.masks)


def test_the_box_decides_and_the_mask_is_measured():
    thing = truth([[0, 0, 20, 20]], [1])
    poor_mask = with_masks([[0, 0, 20, 20]], [[0, 0, 20, 5]], [1], [0.9])
    assert mean_mask_iou([thing], [poor_mask]) == MaskIou(objects=1, matched=1, iou_sum=0.25)


@pytest.mark.parametrize(("bottom", "matched"), [(4.0, 0), (9.0, 0), (9.75, 0), (10.0, 1), (10.25, 1)])
def test_a_box_iou_of_half_is_a_match_unless_told_otherwise(bottom: float, matched: int) -> None:
    thing = truth([[0, 0, 20, 20]], [1])
    result = mean_mask_iou([thing], [found([[0, 0, 20, bottom]], [1], [0.9])])  # IoU bottom / 20
    assert (result.objects, result.matched) == (1, matched)


def test_coverage_counts_what_nobody_took():
    pictures = [truth([[0, 0, 10, 10], [30, 0, 40, 10]], [1, 2]), truth([[0, 0, 10, 10]], [3], image_id=1)]
    found_one = found([[0, 0, 10, 8], [30, 0, 40, 10]], [1, 3], [0.9, 0.8])  # the second has the wrong class
    result = mean_mask_iou(pictures, [found_one, found()])
    assert (result.objects, result.matched) == (3, 1)
    assert result.mean == pytest.approx(0.8)
    assert result.coverage == pytest.approx(1 / 3)


def test_the_more_confident_detection_is_judged_not_the_better_one():
    thing = truth([[0, 0, 10, 10]], [1])
    two = found([[0, 0, 10, 10], [0, 0, 10, 6]], [1, 1], [0.5, 0.9])
    assert mean_mask_iou([thing], [two]).mean == pytest.approx(0.6)


def test_crowds_are_left_out():
    crowd = truth([[0, 0, 30, 30]], [2], [True])
    result = mean_mask_iou([crowd], [found([[0, 0, 10, 10]], [2], [0.9])])
    assert result == MaskIou()
    assert result.mean is None
    assert result.coverage is None


def test_nothing_matched_is_undefined():
    result = mean_mask_iou([truth([[0, 0, 10, 10]], [1])], [found()])
    assert (result.mean, result.coverage) == (None, 0.0)

"""How well the masks fit the objects that were found: mean IoU over matched objects, and how many were (task 16).

Letters: n objects, d detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from src.evaluation.coco_matching import UNMATCHED, match_objects, pair_overlaps
from src.evaluation.instances import GroundTruth, Instances
from src.evaluation.rpn_metrics import ratio


@dataclass(frozen=True)
class MaskIou:
    """Sums over the objects of a split, crowd regions left out."""

    objects: int = 0
    matched: int = 0
    iou_sum: float = 0.0

    def __add__(self, other: MaskIou) -> MaskIou:
        return MaskIou(self.objects + other.objects, self.matched + other.matched, self.iou_sum + other.iou_sum)

    @property
    def mean(self) -> float | None:
        """Mean mask IoU over matched objects, 0 to 1; read it beside `coverage`."""
        return ratio(self.iou_sum, self.matched)

    @property
    def coverage(self) -> float | None:
        """Share of the objects that are matched."""
        return ratio(self.matched, self.objects)


def mean_mask_iou(
    ground_truth: Sequence[GroundTruth], detections: Sequence[Instances], box_iou: float = 0.5
) -> MaskIou:
    """Mask IoU of every object with the detection of its class that takes it.

    Detections take objects greedily by score, at a box IoU of at least `box_iou`: boxes decide who is compared, so
    that a poor mask counts as a poor mask and does not drop out. An object that nobody takes has no mask to judge;
    it lowers `coverage`.

    Raises:
        ValueError: the lists differ in length, or detections have no masks.
    """
    pairs = zip(ground_truth, detections, strict=True)
    return sum((_picture_iou(truth, found, box_iou) for truth, found in pairs), MaskIou())


def _picture_iou(truth: GroundTruth, found: Instances, box_iou: float) -> MaskIou:
    crowd = truth.crowd.numpy()
    matches = match_objects(truth, found, box_iou)
    rows = [row for row, column in enumerate(matches) if column != UNMATCHED and not crowd[column]]
    mask_overlap = pair_overlaps(truth, found, "mask")
    return MaskIou(
        objects=int((~crowd).sum()), matched=len(rows), iou_sum=float(np.sum(mask_overlap[rows, matches[rows]]))
    )

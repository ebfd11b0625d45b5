"""Which ground truth box each anchor or proposal is to learn (tasks 3 and 14; Faster R-CNN, section 3.1.2).

The result is one integer per box: the index of a ground truth box, or `NEGATIVE`, or `IGNORED`.

Letters in shapes: g ground truth boxes; n anchors; c crowd regions.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from src.ops.boxes import Number, Region, box_iou, intersection_over_area, is_inside

NEGATIVE = -1
IGNORED = -2

# A box with more than this share of it inside a crowd region says nothing about background.
CROWD_SHARE = 0.5

# A region whose border nothing crosses. As in torchvision, the RPN over the FPN trains on anchors across the picture's
# border too: the largest ones nearly all cross it, and at test time their proposals are clipped to the picture.
EVERYWHERE = (-math.inf, -math.inf, math.inf, math.inf)


@dataclass(frozen=True)
class MatchThresholds:
    """Positive at `high` and above, negative below `low`, ignored between. Both are IoUs; low <= high."""

    high: Number
    low: Number

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"IoU thresholds: expected 0 <= low <= high <= 1, found low={self.low}, high={self.high}")


def match(iou: Float[Tensor, "g n"], high: Number, low: Number, force_best: bool) -> Int64[Tensor, " n"]:
    """Matches each anchor to the ground truth it overlaps most, as torchvision's and detectron2's `Matcher`.

    For high 0.7, low 0.3 and IoUs [[0.8, 0.1, 0.5], [0.2, 0.2, 0.6]] the result is [0, NEGATIVE, IGNORED], and with
    `force_best` [0, NEGATIVE, 1]: the third anchor is the second box's best.

    Ties: an anchor that overlaps two boxes alike takes the first of them. `force_best` makes *every* anchor that
    reaches a box's best IoU positive, and each points to the box which that anchor overlaps most, which need not be
    the box that forced it. Unlike torchvision, a box that overlaps no anchor at all forces none: its "best" is 0,
    which would turn every anchor far from it into a positive.

    Args:
        iou: overlap of each ground truth box with each anchor.
        high: from this IoU on an anchor is positive.
        low: below this IoU with every box an anchor is negative.
        force_best: gives every ground truth box its best anchors, however low their IoU.

    Returns:
        Index of a ground truth box, NEGATIVE or IGNORED; all NEGATIVE where there is no ground truth.
    """
    if iou.shape[0] == 0:
        return torch.full((iou.shape[1],), NEGATIVE, dtype=torch.int64, device=iou.device)
    value, nearest = iou.max(dim=0)  # [n]
    between = torch.where(value < low, NEGATIVE, IGNORED)
    positive = value >= high
    if force_best and iou.shape[1]:
        best = iou.amax(dim=1, keepdim=True)  # [g, 1]
        positive |= ((iou == best) & (best > 0)).any(dim=0)
    return torch.where(positive, nearest, between)


def label_anchors(
    anchors: Float[Tensor, "n 4"],
    boxes: Float[Tensor, "g 4"],
    region: Region,
    thresholds: MatchThresholds,
    ignore: Float[Tensor, "c 4"] | None = None,
) -> Int64[Tensor, " n"]:
    """Ground truth of the RPN, in the assignment's order.

    First, anchors that cross the picture's border are taken out; only then does each box get its best anchors, from
    those that are left. Non-positive anchors that lie mostly in a crowd region are ignored.

    Args:
        anchors: all anchors of an image.
        boxes: annotated objects, without crowd regions.
        region: x1 y1 x2 y2 of the picture on the canvas.
        thresholds: IoUs for positive and negative.
        ignore: crowd regions.

    Returns:
        Index of a box, NEGATIVE or IGNORED, for each anchor. With no boxes, every anchor inside is NEGATIVE.
    """
    inside = is_inside(anchors, region).nonzero().squeeze(1)
    kept = anchors[inside]
    labels = match(box_iou(boxes, kept), thresholds.high, thresholds.low, force_best=True)
    if ignore is not None and len(ignore):
        labels[_in_crowd(kept, ignore) & (labels < 0)] = IGNORED
    result = torch.full((len(anchors),), IGNORED, dtype=torch.int64, device=anchors.device)
    result[inside] = labels
    return result


def match_rois(
    rois: Float[Tensor, "n 4"], boxes: Float[Tensor, "g 4"], crowd: Float[Tensor, "c 4"], fg_iou_thresh: Number
) -> Int64[Tensor, " n"]:
    """Ground truth of the box head (task 14): objects from an IoU on, background below it, nothing between.

    RoIs that are no objects and lie mostly in a crowd region are ignored.

    Args:
        rois: proposals of an image.
        boxes: annotated objects, without crowd regions.
        crowd: crowd regions.
        fg_iou_thresh: from this IoU on a RoI is an object.

    Returns:
        Index of a box, NEGATIVE or IGNORED, for each RoI.
    """
    matches = match(box_iou(boxes, rois), fg_iou_thresh, fg_iou_thresh, force_best=False)
    return torch.where(_in_crowd(rois, crowd) & (matches == NEGATIVE), IGNORED, matches)


def _in_crowd(boxes: Tensor, crowd: Tensor) -> Tensor:
    return (intersection_over_area(boxes, crowd) > CROWD_SHARE).any(dim=1)

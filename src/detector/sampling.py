"""What each anchor and RoI is to learn: ground truth of the RPN over the FPN and of the box head (tasks 3, 10, 14)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from src.ops.boxes import box_iou, intersection_over_area
from src.ops.matching import IGNORED, NEGATIVE, MatchThresholds, label_anchors, match
from src.ops.sampling import sample

EVERYWHERE = (-math.inf, -math.inf, math.inf, math.inf)


@dataclass(frozen=True)
class Truth:
    """The ground truth of one image on the canvas."""

    boxes: Float[Tensor, "g 4"]
    labels: Int64[Tensor, " g"]
    crowd: Float[Tensor, "c 4"]


@dataclass(frozen=True)
class Sampled:
    """Boxes drawn for a loss: indices into the candidates, positives first, and the ground truth of each positive."""

    indices: Int64[Tensor, " n"]
    positives: int
    truth: Int64[Tensor, " p"]


def sample_anchors(
    anchors: Float[Tensor, "n 4"], truth: Truth, thresholds: MatchThresholds, count: int, generator: torch.Generator
) -> Sampled:
    """Anchors for the losses of the RPN over the FPN: at most half of them positive.

    As in torchvision, and unlike part (a), anchors across the border take part: the largest ones nearly all cross it,
    and at test time their proposals are clipped to the picture.
    """
    matches = label_anchors(anchors, truth.boxes, EVERYWHERE, thresholds, truth.crowd)
    positives, negatives = sample(matches, count, 0.5, generator)
    return Sampled(torch.cat([positives, negatives]), len(positives), matches[positives])


@dataclass(frozen=True)
class RoiRules:
    """Task 14's sampling: IoU above `fg_iou_thresh` is an object; `count` RoIs, a share of them objects."""

    count: int
    positive_fraction: float
    fg_iou_thresh: float


def sample_rois(boxes: Float[Tensor, "n 4"], truth: Truth, rules: RoiRules, generator: torch.Generator) -> Sampled:
    """RoIs for the losses of the box head: foreground above the IoU, background below, none between.

    Candidates that are not objects and lie mostly in a crowd region are left out.
    """
    return draw_rois(match_rois(boxes, truth, rules.fg_iou_thresh), rules, generator)


def match_rois(boxes: Float[Tensor, "n 4"], truth: Truth, fg_iou_thresh: float) -> Int64[Tensor, " n"]:
    """The ground truth of each box, NEGATIVE or IGNORED (see `src.ops.matching`)."""
    matches = match(box_iou(truth.boxes, boxes), fg_iou_thresh, fg_iou_thresh, force_best=False)
    in_crowd = (intersection_over_area(boxes, truth.crowd) > 0.5).any(dim=1)
    return torch.where(in_crowd & (matches == NEGATIVE), IGNORED, matches)


def draw_rois(matches: Int64[Tensor, " n"], rules: RoiRules, generator: torch.Generator) -> Sampled:
    """Draws RoIs by the rules from boxes that `match_rois` has matched."""
    positives, negatives = sample(matches, rules.count, rules.positive_fraction, generator)
    return Sampled(torch.cat([positives, negatives]), len(positives), matches[positives])


def jitter(boxes: Float[Tensor, "n 4"], spread: float, generator: torch.Generator) -> Float[Tensor, "n 4"]:
    """Boxes moved and resized at random: centers by a normal share of the sides, sides by a log-normal factor."""
    noise = spread * torch.randn(boxes.shape, generator=generator).to(boxes.device)
    sizes = boxes[:, 2:] - boxes[:, :2]
    centers = boxes[:, :2] + 0.5 * sizes + noise[:, :2] * sizes
    sizes = sizes * noise[:, 2:].exp()
    return torch.cat([centers - 0.5 * sizes, centers + 0.5 * sizes], dim=1)

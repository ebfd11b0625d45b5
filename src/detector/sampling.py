"""What anchors and RoIs of one image are to learn: drawn, matched and encoded (tasks 3, 10 and 14).

Matching and drawing are `src.ops`' own; here the drawn boxes meet the ground truth that they are regressed to. Anchors
of the RPN over the FPN and RoIs of the box head each have one function, whoever trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from src.core.params import BackboneParams, Params, RoisParams
from src.detector.box_head import encode_scaled
from src.ops.boxes import clip, encode, is_not_empty
from src.ops.matching import EVERYWHERE, MatchThresholds, label_anchors, match_rois
from src.ops.sampling import sample
from src.structures.target import Target

JITTERS = (0.05, 0.1, 0.2, 0.4)  # spreads, as shares of a box's sides: from good proposals to background
COPIES = 8  # jittered copies of each ground truth, of every spread
SMALLEST_ROI = 8.0  # canvas pixels
POSITIVE_ANCHORS = 0.5  # at most, of the anchors in the RPN's losses (Faster R-CNN, section 3.1.3)


@dataclass(frozen=True)
class AnchorRules:
    """Which anchors the RPN learns from: IoUs of positives and negatives, and how many per image."""

    thresholds: MatchThresholds
    count: int

    @classmethod
    def from_params(cls, backbone: BackboneParams) -> AnchorRules:
        """The rules of `params.yaml`."""
        return cls(MatchThresholds(backbone.fg_iou_thresh, backbone.bg_iou_thresh), backbone.rpn_batch_size_per_image)


@dataclass(frozen=True)
class RoiRules:
    """Task 14's sampling: from `fg_iou_thresh` on a RoI is an object; `count` RoIs, at most a share of them objects."""

    count: int
    positive_fraction: float
    fg_iou_thresh: float

    @classmethod
    def from_params(cls, rois: RoisParams, count: int) -> RoiRules:
        """The rules of `params.yaml`, for `count` RoIs per image."""
        return cls(count, rois.positive_fraction, rois.fg_iou_thresh)


@dataclass(frozen=True)
class LossRules:
    """What a training step draws from each image.

    Attributes:
        anchors: for the RPN.
        rois: for the heads.
        mask_rois: at most so many of the positive RoIs learn a mask; None: all of them.
        finest_level: of the pyramid, 2 to 5, from which the RoI candidates among the RPN's proposals come.
    """

    anchors: AnchorRules
    rois: RoiRules
    mask_rois: int | None = None
    finest_level: int = 4

    @classmethod
    def for_fine_tuning(cls, params: Params) -> LossRules:
        """The rules of stage `backbone`: no masks, and proposals from where they cost little."""
        count = params.backbone.box_batch_size_per_image
        return cls(AnchorRules.from_params(params.backbone), RoiRules.from_params(params.rois, count))

    @classmethod
    def for_joint_training(cls, params: Params) -> LossRules:
        """The rules of stage `joint`."""
        joint = params.joint
        rois = RoiRules.from_params(params.rois, joint.box_batch_size_per_image)
        anchors = AnchorRules.from_params(params.backbone)
        return cls(anchors, rois, joint.mask_batch_size_per_image, joint.finest_level)


@dataclass(frozen=True)
class AnchorSamples:
    """Anchors of one image for the RPN's losses.

    Attributes:
        indices: of the anchors, positives first.
        positives: how many are positive.
        deltas: what each positive is regressed to.
    """

    indices: Int64[Tensor, " n"]
    positives: int
    deltas: Float[Tensor, "p 4"]


@dataclass(frozen=True)
class RoiSamples:
    """RoIs of one image for the heads' losses.

    Attributes:
        indices: into the candidates, positives first.
        boxes: the RoIs.
        labels: class of each, 0 for background.
        deltas: scaled deltas that each positive is regressed to.
        truth: the ground truth of each positive.
    """

    indices: Int64[Tensor, " r"]
    boxes: Float[Tensor, "r 4"]
    labels: Int64[Tensor, " r"]
    deltas: Float[Tensor, "p 4"]
    truth: Int64[Tensor, " p"]


def match_anchors(anchors: Float[Tensor, "n 4"], target: Target, rules: AnchorRules) -> Int64[Tensor, " n"]:
    """The ground truth of each anchor over the FPN, NEGATIVE or IGNORED; those across the border count too."""
    return label_anchors(anchors, target.boxes, EVERYWHERE, rules.thresholds, target.crowd)


def sample_anchors(
    anchors: Float[Tensor, "n 4"], target: Target, rules: AnchorRules, generator: torch.Generator
) -> AnchorSamples:
    """Anchors for the losses of the RPN over the FPN: at most half of them positive, those across the border too."""
    drawn = sample(match_anchors(anchors, target, rules), rules.count, POSITIVE_ANCHORS, generator)
    deltas = encode(target.boxes[drawn.truth], anchors[drawn.positive])
    return AnchorSamples(drawn.indices, drawn.positives, deltas)


def sample_rois(
    candidates: Float[Tensor, "n 4"], target: Target, rules: RoiRules, generator: torch.Generator
) -> RoiSamples:
    """RoIs for the losses of the heads: foreground above the IoU, background below, none between.

    Candidates that are not objects and lie mostly in a crowd region are left out.
    """
    matches = match_rois(candidates, target.boxes, target.crowd, rules.fg_iou_thresh)
    drawn = sample(matches, rules.count, rules.positive_fraction, generator)
    boxes = candidates[drawn.indices]
    labels = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    labels[: drawn.positives] = target.labels[drawn.truth]
    deltas = encode_scaled(target.boxes[drawn.truth], boxes[: drawn.positives])
    return RoiSamples(drawn.indices, boxes, labels, deltas, drawn.truth)


def roi_candidates(
    proposals: Float[Tensor, "p 4"], target: Target, region: Float[Tensor, " 4"], generator: torch.Generator
) -> Float[Tensor, "n 4"]:
    """Jittered copies of the ground truth, and the proposals, clipped to the picture; what is left too small goes.

    An untrained RPN proposes nothing near an object; jittered copies give the box head every kind of RoI from the
    first step, and the RPN's own proposals bring the clutter that it takes for objects.
    """
    near = jitter(target.boxes.repeat(COPIES, 1), JITTERS, generator)
    boxes = clip(torch.cat([near, proposals]), region)
    return boxes[is_not_empty(boxes, SMALLEST_ROI)]


def jitter(boxes: Float[Tensor, "n 4"], spreads: Sequence[float], generator: torch.Generator) -> Float[Tensor, "m 4"]:
    """Boxes moved and resized at random: centers by a normal share of the sides, sides by a log-normal factor.

    Returns:
        All boxes with the first spread, then all with the second, and so on.
    """
    draws = [spread * torch.randn(boxes.shape, generator=generator) for spread in spreads]
    noise, boxes = torch.cat(draws).to(boxes.device), boxes.repeat(len(spreads), 1)
    sizes = boxes[:, 2:] - boxes[:, :2]
    centers = boxes[:, :2] + 0.5 * sizes + noise[:, :2] * sizes
    sizes = sizes * noise[:, 2:].exp()
    return torch.cat([centers - 0.5 * sizes, centers + 0.5 * sizes], dim=1)

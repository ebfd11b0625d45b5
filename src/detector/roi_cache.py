"""What the heads see of one image: proposals, pooled features, mask targets (tasks 10, 12, 14, 16)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from src.core.params import FeaturesParams
from src.core.runtime import generator
from src.data.feature_cache import MASK_SIZE, CachedView
from src.data.prepared import Example
from src.detector import box_head, mask_head
from src.detector.mask_rcnn import pool
from src.detector.sampling import Truth, match_rois
from src.ops.masks import mask_targets

FOREGROUND_IOU = 0.5  # of the mask head's RoIs, as the papers have it


@dataclass(frozen=True)
class Kind:
    """Which view of an image it is."""

    flipped: bool
    train: bool


def cache_view(
    features: Sequence[Tensor], proposals: Float[Tensor, "r 4"], example: Example, params: FeaturesParams, kind: Kind
) -> CachedView:
    """Pools what the heads need of one image.

    In training the ground truth boxes join the proposals, so that every object has a RoI from the first step.

    Args:
        features: P2..P5 of this image alone.
        proposals: the RPN's best, on the canvas.
        example: the image, with its masks, mirrored if the view is.
        params: how many RoIs.
        kind: mirrored or not, training or test.
    """
    plain = example.annotated()
    truth = Truth(plain.boxes, plain.labels, example.boxes[example.crowd])
    boxes = proposals[: params.proposals].cpu()
    boxes = torch.cat([boxes, truth.boxes]) if kind.train else boxes
    matches = match_rois(boxes, truth, FOREGROUND_IOU)
    order = (matches >= 0).nonzero().squeeze(1).flip(0)  # ground truth first
    draw = generator(example.index, int(kind.flipped))
    rest = order[len(truth.boxes) :] if kind.train else order
    order = torch.cat([order[: len(order) - len(rest)], rest[torch.randperm(len(rest), generator=draw)]])
    chosen = order[: params.mask_rois]
    device = features[0].device
    return CachedView(
        index=example.index,
        flipped=kind.flipped,
        train=kind.train,
        boxes=boxes,
        pooled=pool(features, [boxes.to(device)], box_head.SIZE).to(torch.bfloat16).cpu(),
        mask_boxes=boxes[chosen],
        mask_labels=truth.labels[matches[chosen]],
        mask_truth=matches[chosen],
        mask_pooled=pool(features, [boxes[chosen].to(device)], mask_head.SIZE).to(torch.bfloat16).cpu(),
        mask_targets=mask_targets(plain.masks, boxes[chosen], matches[chosen], MASK_SIZE).bool(),
    )

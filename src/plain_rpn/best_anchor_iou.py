"""How well a set of anchors covers the ground truth: each box's best IoU with any anchor (task 2).

A box that no anchor overlaps well has positives only through the rule "highest IoU with a ground truth", and the
regressor has a long way to go for it.

Letters: n boxes, N anchors, h and w rows and columns of a feature map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from src.ops.anchors import PYRAMID_STRIDES, pyramid_anchors
from src.ops.boxes import box_iou

CHUNK: Final = 1 << 22  # IoUs at a time: 16 MB a temporary


def best_ious(boxes: Float[Tensor, "n 4"], anchors: Float[Tensor, "N 4"]) -> Float[Tensor, " n"]:
    """Each box's highest IoU with any anchor; 0 where there is no anchor."""
    if not len(anchors):
        return boxes.new_zeros(len(boxes))
    rows = max(1, CHUNK // len(anchors))
    parts = [box_iou(part, anchors).amax(dim=1) for part in boxes.split(rows)] if len(boxes) else []
    return torch.cat(parts) if parts else boxes.new_zeros(0)


def fpn_anchors(sizes: Sequence[float], ratios: Sequence[float], height: int, width: int) -> Float[Tensor, "N 4"]:
    """All anchors of part (b)'s RPN, one size per level, without leaving out those that cross the border.

    Args:
        sizes: square root of the anchors' area on P2..P5 and the pooled level, pixels.
        ratios: height / width.
        height: canvas, pixels.
        width: canvas, pixels.
    """
    grids = tuple((math.ceil(height / stride), math.ceil(width / stride)) for stride in PYRAMID_STRIDES)
    return torch.cat(pyramid_anchors(tuple(sizes), tuple(ratios), (height, width), grids))


def summarize(ious: Float[Tensor, " n"]) -> dict[str, float | None]:
    """Mean of the best IoUs, and the share of boxes above 0.5 and above 0.7; None where there are no boxes."""
    if not len(ious):
        return {"mean": None, "above_0.5": None, "above_0.7": None}
    shares = {f"above_{level}": float((ious > level).float().mean()) for level in (0.5, 0.7)}
    return {"mean": float(ious.mean()), **shares}

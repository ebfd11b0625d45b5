"""Areas and overlaps of boxes and masks as COCO measures them.

The functions wrap faster-coco-eval's mask API, so that every overlap here is the evaluator's own number, crowd rule
included: the overlap with a crowd region is the share of the detection that lies in it, not the IoU.
Letters: n masks, d detections, g ground truth objects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from faster_coco_eval.core import mask as mask_api
from jaxtyping import Float64
from torch import Tensor

from src.structures.masks import Rle, decode_masks, encode_masks

__all__ = ["Rle", "decode_masks", "encode_masks", "mask_areas", "overlaps", "to_xywh"]


def mask_areas(codes: Sequence[Rle]) -> list[int]:
    """Pixels in each mask."""
    return [int(area) for area in mask_api.area(list(codes))] if codes else []


def to_xywh(boxes: Tensor) -> list[list[float]]:
    """COCO's boxes (left, top, width, height) of boxes [n, 4] given by two corners."""
    corners = boxes.detach().cpu().double()  # [n, 4]; doubles, so that x + width gives back the right edge
    return [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in corners.tolist()]


def overlaps(
    found: Sequence[Rle] | Tensor, truth: Sequence[Rle] | Tensor, crowd: Sequence[bool]
) -> Float64[np.ndarray, "d g"]:
    """IoU of each detection with each object; for crowd regions, intersection over the detection's area.

    Args:
        found: boxes [d, 4] (two corners) or masks of the detections.
        truth: the same of the objects, [g, 4] or g masks.
        crowd: which of the g objects are crowd regions.
    """
    if not len(found) or not len(truth):
        return np.zeros((len(found), len(truth)))
    first = to_xywh(found) if isinstance(found, Tensor) else list(found)
    second = to_xywh(truth) if isinstance(truth, Tensor) else list(truth)
    return np.asarray(mask_api.iou(first, second, [int(flag) for flag in crowd]), dtype=np.float64)

"""Masks as COCO's compressed run lengths, and the overlaps of boxes and masks as COCO measures them.

The functions wrap faster-coco-eval's mask API, so that every overlap here is the evaluator's own number, crowd rule
included: the overlap with a crowd region is the share of the detection that lies in it, not the IoU.
Letters: n masks, d detections, g ground truth objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from faster_coco_eval.core import mask as mask_api
from jaxtyping import Bool, Float64
from torch import Tensor

Rle: TypeAlias = dict[str, Any]  # {"size": [height, width], "counts": text}, as in COCO's json files


def encode_masks(masks: Bool[Tensor, "n h w"] | Bool[np.ndarray, "n h w"]) -> list[Rle]:
    """Run lengths of each mask, ready for json.

    Raises:
        ValueError: masks are not three-dimensional.
    """
    pixels = np.asarray(masks, dtype=np.uint8)
    if pixels.ndim != 3:
        raise ValueError(f"masks: expected [n, height, width], found shape {pixels.shape}")
    if not len(pixels):
        return []
    codes = mask_api.encode(np.asfortranarray(pixels.transpose(1, 2, 0)))
    return [{"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")} for code in codes]


def decode_masks(codes: Sequence[Rle], height: int, width: int) -> Bool[np.ndarray, "n h w"]:
    """The masks of run lengths; `height` and `width` give the empty result its shape.

    Raises:
        ValueError: a mask has another size.
    """
    if not codes:
        return np.zeros((0, height, width), bool)
    sizes = {tuple(code["size"]) for code in codes}
    if sizes != {(height, width)}:
        raise ValueError(f"masks: expected size {(height, width)}, found {sorted(sizes)}")
    return mask_api.decode(list(codes)).transpose(2, 0, 1).astype(bool)


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

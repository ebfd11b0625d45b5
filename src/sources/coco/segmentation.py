"""COCO's two ways to store a mask: polygons, and run lengths, plain or as text (cocodataset.org/#format-data).

The run-length decoders are plain Python that trusts nothing; polygons are rasterized by COCO's own routine, as every
published mask was, once their coordinates are known to be near the picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask
from jaxtyping import Bool

from src.core.errors import brief

FARTHEST = 1e9  # a coordinate
LARGEST_SHIFT = 40  # bits; run lengths of pictures need far fewer

Size = tuple[int, int]


def decode(segmentation: Any, size: Size) -> Bool[np.ndarray, "h w"]:
    """Decodes an annotation's `segmentation`.

    Args:
        segmentation: a list of polygons [x1, y1, x2, y2, ...], or {"size": [h, w], "counts": list or text}.
        size: height and width of the picture.

    Returns:
        The mask; empty if no polygon has three corners (the published files hold a few such).

    Raises:
        ValueError: neither of the two forms, or one that does not fit the picture.
    """
    if isinstance(segmentation, list) and segmentation:
        return decode_polygons(segmentation, size)
    if not isinstance(segmentation, dict) or "counts" not in segmentation:
        raise ValueError(f"neither polygons nor run lengths but {brief(segmentation)}")
    if segmentation.get("size") != list(size):
        raise ValueError(f"run lengths of size {brief(segmentation.get('size'))} in a picture of {list(size)}")
    counts = segmentation["counts"]
    return decode_runs(text_to_runs(counts) if isinstance(counts, str) else counts, size)


def decode_runs(runs: Any, size: Size) -> Bool[np.ndarray, "h w"]:
    """Decodes run lengths: pixels column by column, lengths of zeros and ones in turn, zeros first.

    Example:
        `decode_runs([1, 2, 1], (2, 2))` is [[0, 1], [1, 0]]: the lower left and the upper right pixel.

    Raises:
        ValueError: not a list of whole numbers from 0 whose sum is the number of pixels.
    """
    height, width = size
    whole = isinstance(runs, list) and all(type(run) is int and 0 <= run <= height * width for run in runs)
    if not whole or sum(runs) != height * width:
        raise ValueError(f"run lengths that do not add up to {height} x {width} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def text_to_runs(text: str) -> list[int]:
    """Unpacks COCO's text form of run lengths: 5 bits a character, and from the fourth run on differences.

    Each character is 48 plus five bits of the number and a sixth that says whether more follow; the highest bit of
    the last is the sign. The fourth and later numbers are differences to the number two before.

    Raises:
        ValueError: a character out of range, or a number cut off.
    """
    runs: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > LARGEST_SHIFT:
            raise ValueError(f"run lengths with {character!r} in their text")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        number -= (bits & 16) << (shift - 4)
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number = shift = 0
    if shift:
        raise ValueError("run lengths cut off in the middle of a number")
    return runs


def decode_polygons(polygons: list[Any], size: Size) -> Bool[np.ndarray, "h w"]:
    """Rasterizes the union of polygons, as COCO does.

    Raises:
        ValueError: a polygon is not a list of coordinate pairs, or reaches further out than the picture is large.
    """
    height, width = size
    shapes = []
    for polygon in polygons:
        numbers = isinstance(polygon, list) and all(_is_near(value) for value in polygon)
        if not numbers or len(polygon) % 2:
            raise ValueError(f"a polygon that is not a list of x y pairs: {brief(polygon)}")
        corners = np.asarray(polygon, np.float64).reshape(-1, 2)
        if not (np.abs(corners - [width / 2, height / 2]) <= [1.5 * width, 1.5 * height]).all():
            raise ValueError(f"a polygon far outside the picture: {brief(polygon)}")
        if len(corners) >= 3:
            shapes.append(corners.ravel().tolist())
    if not shapes:
        return np.zeros(size, bool)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(shapes, height, width))).view(bool)


def _is_near(value: Any) -> bool:
    """Whether it is a number that a float holds, far as it may be from any picture; JSON knows others."""
    return type(value) in (int, float) and not abs(value) > FARTHEST

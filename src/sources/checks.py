"""What makes an object's annotation usable; the same rules for every source.

Boxes may lie outside the picture by rounding only: the course's boxes were scaled to the 300 x 400 frame, COCO's are
rounded to hundredths. Such boxes are clipped, boxes further out are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from src.core.errors import invalid
from src.data.letterbox import ImageRegion
from src.structures.classes import Classes

TOLERANCE = 1.0  # pixels of a picture of 300 x 400; of a larger one in proportion


def check_labels(labels: Int64[np.ndarray, " n"], classes: Classes, path: Path, index: int | str) -> None:
    """Refuses labels that no object class has.

    Raises:
        InputError: naming the first such label.
    """
    wrong = labels[(labels < 1) | (labels >= classes.count)]
    if len(wrong):
        raise invalid(path, f"labels 1 to {classes.count - 1}", int(wrong[0]), index)


def check_count(count: int, limit: int, path: Path, index: int | str) -> None:
    """Refuses more objects in one picture than `data.objects_per_image`.

    COCO has 93 at most, and 10,000 masks on the canvas would fill 9 GB.

    Raises:
        InputError: naming the picture.
    """
    if count > limit:
        raise invalid(path, f"at most {limit} objects in a picture (data.objects_per_image)", count, index)


def clip_boxes(
    boxes: Float32[np.ndarray, "n 4"],
    content: ImageRegion,
    path: Path,
    index: int | str,
    tolerance: float = TOLERANCE,
) -> Float32[np.ndarray, "n 4"]:
    """Clips boxes that reach over the picture's border.

    Args:
        boxes: x1 y1 x2 y2 in pixels.
        content: x1 y1 x2 y2 of the picture.
        path: the file named in complaints.
        index: the entry named in complaints.
        tolerance: pixels by which they may; by rounding only, where nothing else is said.

    Returns:
        The boxes inside `content`, each wider and higher than 0.

    Raises:
        InputError: a coordinate is not finite, the corners are not upper left and lower right, or the box leaves the
            picture by more than `tolerance`.
    """
    if not np.isfinite(boxes).all():
        raise invalid(path, "finite box coordinates", _text(boxes[~np.isfinite(boxes).all(1)][0]), index)
    left, top, right, bottom = content
    low = np.array([left, top, left, top], np.float32)
    high = np.array([right, bottom, right, bottom], np.float32)
    outside = ((boxes < low - tolerance) | (boxes > high + tolerance)).any(1)
    if outside.any():
        raise invalid(path, f"boxes inside the picture {_text(content)}", _text(boxes[outside][0]), index)
    clipped = np.clip(boxes, low, high)
    empty = (clipped[:, 2:] <= clipped[:, :2]).any(1)
    if empty.any():
        raise invalid(path, "boxes x1 y1 x2 y2 with x1 < x2 and y1 < y2", _text(boxes[empty][0]), index)
    return clipped


def check_mask(mask: Bool[np.ndarray, "h w"], box: Float32[np.ndarray, " 4"], path: Path, index: int | str) -> None:
    """Refuses a mask without pixels, or without any inside its box: then masks and labels are out of step.

    Raises:
        InputError: naming the mask.
    """
    if not mask.any():
        raise invalid(path, "a mask with pixels", "an empty one", index)
    x1, y1 = np.maximum(np.floor(box[:2]).astype(int) - 1, 0)
    x2, y2 = np.ceil(box[2:]).astype(int) + 1
    if not mask[y1:y2, x1:x2].any():
        raise invalid(path, f"a mask inside its box {_text(box)}", "one elsewhere (masks not in label order?)", index)


def _text(numbers: Iterable[Any]) -> str:
    return "(" + ", ".join(f"{number:g}" for number in numbers) + ")"

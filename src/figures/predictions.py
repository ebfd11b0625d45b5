"""A person's own picture with what was found in it (task 18)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from src.evaluation.instances import Instances
from src.evaluation.rle import decode_masks
from src.figures.base import draw_scene, new_figure, save_figure
from src.structures.classes import Classes

LARGEST_SIDE: Final = 1400  # pixels of a picture as it is drawn; the figure itself has at most 1320 either way


def draw_prediction(picture: UInt8[np.ndarray, "h w 3"], found: Instances, classes: Classes, path: Path) -> None:
    """Draws the picture with masks, boxes, classes and scores; one with a longer side than `LARGEST_SIDE` reduced.

    Args:
        picture: RGB.
        found: in the picture's own pixels; stays as it is.
        classes: what its labels stand for.
        path: PNG to write.
    """
    height, width = picture.shape[:2]
    figure, axes = new_figure(width=8, height=max(2.0, min(12.0, 8 * height / width)))
    rows, columns = drawn_size(height, width)
    masks = np.zeros((len(found), rows, columns), bool)
    for row, code in enumerate(found.masks or []):
        masks[row] = _resized_mask(decode_masks([code], height, width)[0], rows, columns)
    boxes = found.boxes
    if (rows, columns) != (height, width):
        picture = np.asarray(Image.fromarray(picture).resize((columns, rows), Image.Resampling.BILINEAR))
        boxes = boxes * boxes.new_tensor([columns / width, rows / height] * 2)
    draw_scene(axes[0, 0], picture, boxes, found.labels, found.scores, masks, classes=classes)
    save_figure(figure, path)


def drawn_size(height: int, width: int) -> tuple[int, int]:
    """Height and width, pixels, in which a picture of a given size is drawn: its own, up to `LARGEST_SIDE`."""
    scale = min(1.0, LARGEST_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _resized_mask(mask: Bool[np.ndarray, "h w"], rows: int, columns: int) -> Bool[np.ndarray, "rows columns"]:
    """A pixel is in the mask where at least half of its area is."""
    if mask.shape == (rows, columns):
        return mask
    shares = Image.fromarray(mask.astype(np.uint8) * 255).resize((columns, rows), Image.Resampling.BOX)
    return np.asarray(shares) >= 128

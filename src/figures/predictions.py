"""A person's own picture with what was found in it (task 18)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from src.evaluation.instances import Instances
from src.figures.base import draw_scene, new_figure, save_figure
from src.figures.view import View
from src.structures.classes import Classes


def draw_prediction(picture: UInt8[np.ndarray, "h w 3"], found: Instances, classes: Classes, path: Path) -> None:
    """Draws the picture with masks, boxes, classes and scores, reduced where it is large.

    Args:
        picture: RGB.
        found: in the picture's own pixels; stays as it is.
        classes: what its labels stand for.
        path: PNG to write.
    """
    height, width = picture.shape[:2]
    figure, axes = new_figure(width=8, height=max(2.0, min(12.0, 8 * height / width)))
    view = View.of(height, width)
    masks, boxes = view.masks(found.masks or []), view.boxes(found.boxes)
    draw_scene(axes[0, 0], view.picture(picture), boxes, found.labels, found.scores, masks, classes=classes)
    save_figure(figure, path)

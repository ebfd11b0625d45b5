"""Two detectors on the same images: where one finds what the other misses (task 13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.lines import Line2D

from src.evaluation.instances import GroundTruth, Instances
from src.figures.base import INK, POSITIVE, STYLE, draw_boxes, draw_scene, new_figure, save_figure
from src.figures.view import View
from src.structures.classes import Classes
from src.structures.detector import DETECTOR_NAMES

WIDTH: Final = 2.6  # points; of the dotted boxes around what only one detector finds
TITLE_ROOM: Final = 0.1  # inches


@dataclass(frozen=True)
class Apart:
    """An image in which one detector finds what the other misses.

    Attributes:
        image: as it is drawn, which may be smaller.
        truth: what it holds, in the image's own pixels.
        found: what each detector finds there, by its name, from its own threshold on.
        missed: which objects only one of them finds; crowd regions are none.
    """

    image: UInt8[np.ndarray, "h w 3"]
    truth: GroundTruth
    found: dict[str, Instances]
    missed: Bool[np.ndarray, " n"]


def plot_apart(images: Sequence[Apart], classes: Classes, path: Path) -> None:
    """Draws each image twice, with one detector's boxes and with the other's; without any, a figure that says so."""
    figure, axes = new_figure(max(1, len(images)), 2, width=4.2, height=3.7)
    figure.set_layout_engine("constrained", h_pad=TITLE_ROOM)
    for panels, one in zip(axes, images, strict=False):
        view = View(one.truth.height, one.truth.width, *one.image.shape[:2])
        boxes = view.boxes(one.truth.boxes[~one.truth.crowd][one.missed])
        for ax, (name, found) in zip(panels, one.found.items(), strict=True):
            title = f"{one.truth.name}: {DETECTOR_NAMES[name]}, {len(found)} found"
            shown = view.boxes(found.boxes)
            draw_scene(ax, one.image, shown, found.labels, found.scores, title=title, classes=classes)
            draw_boxes(ax, boxes, INK, width=WIDTH)
            draw_boxes(ax, boxes, POSITIVE, linestyle=":", width=WIDTH)
    if not images:
        for ax in axes.flat:
            ax.set_axis_off()
        axes[0, 0].set_title("each finds the same objects as the other")
    line = Line2D([], [], color=POSITIVE, linestyle=":", linewidth=WIDTH, label="object that only one of them finds")
    with mpl.rc_context(STYLE):
        figure.legend(handles=[line], loc="outside lower center")
    save_figure(figure, path)

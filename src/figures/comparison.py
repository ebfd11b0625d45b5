"""Figures of two runs: losses laid over each other, lost objects side by side, an image as each run saw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from torch import Tensor

from src.evaluation.funnel import Funnel
from src.evaluation.instances import Instances
from src.evaluation.rle import decode_masks
from src.figures.base import (
    SERIES,
    TAG_SIZE,
    TRUTH,
    draw_boxes,
    draw_scene,
    new_figure,
    plot_curves,
    save_figure,
    term_name,
)
from src.figures.classes import LINES

COLUMNS: Final = 3  # panels side by side
SMOOTHING: Final = 0.04  # share of the iterations in the running mean
BAR: Final = 0.38  # of the room of a step


def plot_overlaid(tables: Mapping[str, pd.DataFrame], terms: Sequence[str], path: Path) -> None:
    """Draws one panel a loss term with a curve for each run, smoothed.

    Args:
        tables: by the run's name, a history with the column `iteration` and some of the terms.
        terms: columns to draw, the raw terms and `total`.
        path: PNG to write.
    """
    rows = -(-len(terms) // COLUMNS)
    figure, axes = new_figure(rows, min(COLUMNS, len(terms)), width=3.4, height=2.6)
    for ax, term in zip(axes.flat, terms, strict=False):
        for (name, table), color, line in zip(tables.items(), SERIES, LINES, strict=False):
            if term in table:
                smooth = max(1, round(SMOOTHING * len(table)))
                plot_curves(ax, table, {term: name}, smooth, colors=[color], linestyle=line)
        ax.set_title("total (weighted)" if term == "total" else term_name(term))
    for ax in axes.flat[len(terms) :]:
        ax.set_axis_off()
    save_figure(figure, path)


def plot_funnels(funnels: Mapping[str, Funnel], path: Path) -> None:
    """Draws the objects that each step loses, a bar for each run."""
    figure, axes = new_figure(width=6.4, height=3.6)
    ax = axes[0, 0]
    for number, ((name, funnel), color) in enumerate(zip(funnels.items(), SERIES, strict=False)):
        rows = funnel.rows()
        places, lost = np.arange(len(rows)) + BAR * number, [int(row["lost"]) for row in rows]
        ax.barh(places, lost, BAR, color=color, label=f"{name}: {funnel.objects - funnel.found} missed")
        for place, count in zip(places, lost, strict=True):
            ax.text(count, place, f" {count}", va="center", fontsize=TAG_SIZE)
        ax.set_yticks(np.arange(len(rows)) + BAR / 2, [str(row["step"]) for row in rows])
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set(xlabel="objects lost at this step")
    ax.legend()
    save_figure(figure, path)


def plot_both(
    image: UInt8[np.ndarray, "h w 3"], found: Mapping[str, Instances], box: Float[Tensor, " 4"], path: Path
) -> None:
    """Draws an image as each run saw it, side by side, with the object in question dotted.

    Args:
        image: the picture.
        found: by the panel's title, the detections that are drawn.
        box: of the object, the picture's pixels.
        path: PNG to write.
    """
    figure, axes = new_figure(1, len(found), width=4.4, height=3.6)
    height, width = image.shape[:2]
    for ax, (title, one) in zip(axes.flat, found.items(), strict=True):
        masks = None if one.masks is None else decode_masks(one.masks, height, width)
        draw_scene(ax, image, one.boxes, one.labels, one.scores, masks, title=title)
        draw_boxes(ax, box[None], "#000000", width=2.2)
        draw_boxes(ax, box[None], TRUTH, linestyle=":", width=2.2)
    save_figure(figure, path)

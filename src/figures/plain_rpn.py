"""Part (a)'s figures: ground truth on the anchors (task 3), receptive field (task 5), proposals (task 7).

All are drawn on the canvas, black columns included, because that is what the network sees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from src.core.runtime import generator
from src.data.prepared import Example
from src.figures.base import INK, SERIES, TRUTH, draw_boxes, draw_scene, new_figure, save_figure, set_title
from src.figures.base import NEGATIVE as NEGATIVE_COLOR
from src.figures.base import POSITIVE as POSITIVE_COLOR
from src.ops.matching import IGNORED, NEGATIVE
from src.plain_rpn.anchor_grid import AnchorGrid
from src.structures.proposals import Proposals

COLUMNS: Final = 2
FIELD_COLOR: Final = SERIES[3]
NEGATIVES: Final = 5  # drawn per image
POSITIVES: Final = 12  # best positive proposals drawn per image
EVEN_CHANCE: Final = 0.5


@dataclass(frozen=True)
class GradientView:
    """What one neuron of the intermediate layer sees of one picture.

    Attributes:
        example: the picture.
        anchors: the neuron's own, which share its center.
        side: of the receptive field, pixels.
        gradient: absolute gradient of the trained neuron w.r.t. the canvas.
    """

    example: Example
    anchors: Float[Tensor, "A 4"]
    side: int
    gradient: Float[Tensor, "H W"]

    @property
    def square(self) -> Float[np.ndarray, "1 4"]:
        """The receptive field as a box."""
        half = self.side / 2
        x, y = ((self.anchors[0, :2] + self.anchors[0, 2:]) / 2).tolist()
        return np.array([[x - half, y - half, x + half, y + half]])


def plot_ground_truth(examples: Sequence[Example], grid: AnchorGrid, path: Path) -> None:
    """Draws each image's boxes, all its positive anchors and a few negatives; counts of every kind above it."""
    figure, axes = _panels(len(examples))
    for ax, example in zip(axes, examples, strict=False):
        region = example.letterbox.region
        matches = grid.label(example.target, region)
        _scene(ax, example)
        draw_boxes(ax, grid.anchors[_some(matches == NEGATIVE, example.index)], NEGATIVE_COLOR, "--", 1.0)
        draw_boxes(ax, grid.anchors[matches >= 0], POSITIVE_COLOR, "-", 1.0)
        draw_boxes(ax, example.target.boxes, TRUTH, "-", 2.0)
        set_title(ax, count_text(matches, grid.crossing(region)))
    figure.suptitle("anchors: positive orange, some negatives blue; ground truth white", x=0.01, ha="left", color=INK)
    save_figure(figure, path)


def count_text(matches: Int64[Tensor, " N"], crossing: int) -> str:
    """How many anchors of an image have each fate; `crossing` of them cross its border."""
    ignored = int((matches == IGNORED).sum()) - crossing
    positive, negative = int((matches >= 0).sum()), int((matches == NEGATIVE).sum())
    return f"{positive} positive, {negative} negative, {ignored} between, {crossing} across the border"


def plot_proposals(examples: Sequence[Example], proposals: Sequence[Proposals], path: Path) -> None:
    """Draws each image's best positive proposals (probability above 0.5), some negative ones, and the ground truth."""
    figure, axes = _panels(len(examples))
    for ax, example, found in zip(axes, examples, proposals, strict=False):
        positive = found.scores > EVEN_CHANCE
        _scene(ax, example)
        draw_boxes(ax, found.boxes[_some(~positive, example.index)], NEGATIVE_COLOR, "--", 1.0)
        draw_boxes(ax, found.boxes[positive][:POSITIVES], POSITIVE_COLOR, "-", 1.2)
        draw_boxes(ax, example.target.boxes, TRUTH, "-", 2.0)
        shown = min(int(positive.sum()), POSITIVES)
        set_title(ax, f"{int(positive.sum())} positive after NMS, the best {shown} drawn")
    figure.suptitle("proposals: positive orange, some negatives blue; ground truth white", x=0.01, ha="left", color=INK)
    save_figure(figure, path)


def plot_receptive_field(view: GradientView, path: Path) -> None:
    """Draws the receptive field against boxes and anchor, and the measured gradient inside it (logarithmic)."""
    figure, axes = new_figure(1, 2, width=5.0, height=4.1)
    left, right = axes[0]
    _scene(left, view.example)
    draw_boxes(left, view.anchors, POSITIVE_COLOR, "-", 1.4, "anchor")
    draw_boxes(left, view.example.target.boxes, TRUTH, "-", 2.0)
    draw_boxes(left, view.square, FIELD_COLOR, "-", 2.2, f"field {view.side} x {view.side}")
    left.set_title("receptive field, anchor and objects (white)")
    gradient = view.gradient.numpy()
    top = float(gradient.max()) or 1.0
    shown = right.imshow(np.maximum(gradient, top * 1e-4), norm=LogNorm(top * 1e-4, top), cmap="magma")
    draw_boxes(right, view.square, FIELD_COLOR, "-", 1.6)
    (x1, y1, x2, y2), (height, width) = view.square[0] + (-40, -40, 40, 40), gradient.shape
    right.set(xlim=(max(x1, 0), min(x2, width)), ylim=(min(y2, height), max(y1, 0)))  # the canvas, and no more
    right.set(title="gradient of the trained neuron, by pixel", xlabel="x, pixels", ylabel="y, pixels")
    right.grid(visible=False)
    figure.colorbar(shown, ax=right, shrink=0.8, label="absolute gradient, logarithmic")
    save_figure(figure, path)


def _panels(images: int) -> tuple[Figure, list[Axes]]:
    """One panel per image, two in a row; panels left over are blank."""
    rows = max(1, math.ceil(images / COLUMNS))
    figure, axes = new_figure(rows, COLUMNS, width=4.6, height=3.7)
    panels: list[Axes] = list(axes.flat)
    for ax in panels[images:]:
        ax.set_axis_off()
    return figure, panels


def _scene(ax: Axes, example: Example) -> None:
    draw_scene(ax, example.image.permute(1, 2, 0).numpy())


def _some(chosen: Bool[Tensor, " N"], image: int) -> Int64[Tensor, " k"]:
    """A few of the chosen indices, drawn for this image, the same ones every run."""
    candidates = chosen.nonzero().squeeze(1)
    order = torch.randperm(len(candidates), generator=generator(image))
    return candidates[order[:NEGATIVES]]

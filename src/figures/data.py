"""Figures of the data: a sheet of samples (assignment, section 2) and the prepared picture (task 9)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from torch import Tensor

from src.data.prepared import Example
from src.figures.base import (
    CLASS_COLORS,
    color_of,
    draw_boxes,
    draw_masks,
    draw_scene,
    new_figure,
    save_figure,
)
from src.structures.classes import CLASS_NAMES, OBJECT_CLASSES
from src.structures.sample import Sample

COLUMNS = 4
CROWD_COLOR = "#bdbdbd"
MOST_TAGS = 4  # objects in a small picture whose tags leave something of it to be seen
PLURALS = {"vehicle": "vehicles", "person": "people", "animal": "animals"}


def draw_samples(path: Path, samples: Sequence[Sample], title: str) -> None:
    """Draws pictures in a grid with their boxes and masks in the classes' colors; crowd regions dashed.

    Args:
        path: the PNG to be written.
        samples: a dozen pictures.
        title: above the sheet.
    """
    rows = max(1, -(-len(samples) // COLUMNS))
    figure, axes = new_figure(rows, COLUMNS, width=3.2, height=2.75)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, sample in zip(axes.flat, samples, strict=False):
        _draw_sample(ax, sample)
    figure.suptitle(title, x=0.01, ha="left")
    handles = [Patch(color=CLASS_COLORS[name], label=name) for name in OBJECT_CLASSES]
    if any(sample.crowd.any() for sample in samples):
        handles.append(Patch(fill=False, edgecolor=CROWD_COLOR, linestyle="--", label="crowd region, ignored"))
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles))
    save_figure(figure, path)


def _draw_sample(ax: Axes, sample: Sample) -> None:
    """One picture of the sheet; where objects are many, colors alone tell their classes."""
    single = ~sample.crowd
    boxes, labels, masks = sample.boxes[single], sample.labels[single], sample.masks.keep(single).pixels()
    draw_scene(ax, sample.image, title=f"{sample.name}: {count_text(labels)}")
    if len(boxes) <= MOST_TAGS:
        draw_scene(ax, sample.image, boxes, labels, masks=masks)
    else:
        draw_masks(ax, masks, [color_of(int(label)) for label in labels])
        for box, label in zip(boxes, labels, strict=True):
            draw_boxes(ax, box[None], color_of(int(label)), width=1.0)
    draw_boxes(ax, sample.boxes[sample.crowd], CROWD_COLOR, linestyle="--")


def count_text(labels: Sequence[int] | np.ndarray) -> str:
    """Labels in words, e.g. `2 people, 1 animal`."""
    counts = [(int(np.sum(np.asarray(labels) == CLASS_NAMES.index(name))), name) for name in OBJECT_CLASSES]
    words = [f"{count} {name if count == 1 else PLURALS[name]}" for count, name in counts if count]
    return ", ".join(words) or "no objects"


def draw_prepared(path: Path, example: Example, normalized: Float32[Tensor, "3 h w"]) -> None:
    """Draws task 9's picture: as the network receives it, clipped to 0..1, bare and with its ground truth.

    Args:
        path: the PNG to be written.
        example: the prepared picture.
        normalized: its values after normalization and padding.
    """
    image = normalized.clamp(0, 1).permute(1, 2, 0).numpy()
    height, width = image.shape[:2]
    figure, axes = new_figure(1, 2, width=7.0, height=5.45)
    lowest, highest = float(normalized.min()), float(normalized.max())
    values = f"values from {lowest:.2f} to {highest:.2f}, drawn clipped to 0..1"
    draw_scene(axes[0, 0], image, title=f"{example.name}, normalized: {values}")
    title = f"with its ground truth, resized along: {count_text(example.target.labels.numpy())}"
    draw_scene(axes[0, 1], image, example.target.boxes, example.target.labels, masks=example.target.masks, title=title)
    for ax in axes.flat:
        ax.set_axis_on()
        ax.grid(visible=False)
        ax.set_xticks([0, width / 2, width])
        ax.set_yticks([0, height / 2, height])
    save_figure(figure, path)

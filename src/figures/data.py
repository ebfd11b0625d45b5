"""Figures of the data: a sheet of samples (assignment, section 2) and the prepared picture (task 9)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch
from torch import Tensor

from src.data.prepared import Example
from src.figures.base import draw_boxes, draw_masks, draw_scene, new_figure, save_figure, tag_text
from src.figures.classes import MOST_NAMED, color_of, label_text, line_of, shorten
from src.structures.classes import Classes
from src.structures.sample import Sample

COLUMNS = 4
CROWD_COLOR = "#bdbdbd"
MOST_TAGS = 4  # objects in a small picture whose tags leave something of it to be seen
MOST_KINDS = 3  # classes that the title of a picture counts
LEGEND_COLUMNS = 6


def draw_samples(path: Path, samples: Sequence[Sample], classes: Classes, title: str) -> None:
    """Draws pictures in a grid with their boxes and masks in the classes' colors; crowd regions dashed.

    Where classes are many, the legend has those that are in the pictures, the first `MOST_NAMED` of them.

    Args:
        path: the PNG to be written.
        samples: a dozen pictures.
        classes: what their labels stand for.
        title: above the sheet.
    """
    rows = max(1, -(-len(samples) // COLUMNS))
    figure, axes = new_figure(rows, COLUMNS, width=3.2, height=2.75)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, sample in zip(axes.flat, samples, strict=False):
        _draw_sample(ax, sample, classes)
    figure.suptitle(title, x=0.01, ha="left")
    shown: Sequence[int] = classes.labels
    if len(shown) > MOST_NAMED:
        shown = sorted({int(label) for sample in samples for label in sample.labels})
    handles = [
        Patch(
            facecolor=to_rgba(color_of(label), 0.42),
            edgecolor=color_of(label),
            linestyle=line_of(label),
            linewidth=1.6,
            label=label_text(shorten(classes.name_of(label))),
        )
        for label in shown[:MOST_NAMED]
    ]
    if len(shown) > MOST_NAMED:
        handles.append(Patch(fill=False, edgecolor="none", label=f"and {len(shown) - MOST_NAMED} more"))
    if any(sample.crowd.any() for sample in samples):
        handles.append(Patch(fill=False, edgecolor=CROWD_COLOR, linestyle="--", label="crowd region, ignored"))
    figure.legend(handles=handles, loc="outside lower left", ncols=min(len(handles), LEGEND_COLUMNS))
    save_figure(figure, path)


def _draw_sample(ax: Axes, sample: Sample, classes: Classes) -> None:
    """One picture of the sheet; where objects are many, colors and lines alone tell their classes."""
    single = ~sample.crowd
    boxes, labels, masks = sample.boxes[single], sample.labels[single].tolist(), sample.masks.keep(single).pixels()
    draw_scene(ax, sample.image, title=f"{sample.name}: {count_text(labels, classes)}")
    draw_masks(ax, masks, [color_of(label) for label in labels])
    tagged = len(boxes) <= MOST_TAGS
    for box, label in zip(boxes, labels, strict=True):
        tag = tag_text(classes.name_of(label), None) if tagged else ""
        draw_boxes(ax, box[None], color_of(label), line_of(label), 1.6 if tagged else 1.0, tag)
    draw_boxes(ax, sample.boxes[sample.crowd], CROWD_COLOR, linestyle="--")


def count_text(labels: Sequence[int] | np.ndarray, classes: Classes) -> str:
    """Labels in words, e.g. `2 x person, 1 x animal`."""
    found, counts = np.unique(np.asarray(labels), return_counts=True)
    words = [f"{count} x {shorten(classes.name_of(int(label)))}" for label, count in zip(found, counts, strict=True)]
    if len(words) > MOST_KINDS:
        words[MOST_KINDS:] = [f"{counts[MOST_KINDS:].sum()} more"]
    return ", ".join(words) or "no objects"


def draw_prepared(path: Path, example: Example, normalized: Float32[Tensor, "3 h w"], classes: Classes) -> None:
    """Draws task 9's picture: as the network receives it, clipped to 0..1, bare and with its ground truth.

    Args:
        path: the PNG to be written.
        example: the prepared picture.
        normalized: its values after normalization and padding.
        classes: what its labels stand for.
    """
    image = normalized.clamp(0, 1).permute(1, 2, 0).numpy()
    height, width = image.shape[:2]
    figure, axes = new_figure(1, 2, width=7.0, height=5.45)
    lowest, highest = float(normalized.min()), float(normalized.max())
    values = f"values from {lowest:.2f} to {highest:.2f}, drawn clipped to 0..1"
    draw_scene(axes[0, 0], image, title=f"{example.name}, normalized: {values}")
    target = example.target
    title = f"with its ground truth, resized along: {count_text(target.labels.numpy(), classes)}"
    draw_scene(axes[0, 1], image, target.boxes, target.labels, masks=target.masks, title=title, classes=classes)
    for ax in axes.flat:
        ax.set_axis_on()
        ax.grid(visible=False)
        ax.set_xticks([0, width / 2, width])
        ax.set_yticks([0, height / 2, height])
    save_figure(figure, path)

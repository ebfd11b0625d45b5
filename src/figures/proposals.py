"""Proposals on the image of task 9 (task 10), before and after fine-tuning (task 8)."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.data.prepared import Example
from src.figures.base import INK, POSITIVE, draw_boxes, draw_scene, new_figure, save_figure
from src.structures.classes import Classes
from src.structures.proposals import Proposals

SHOWN = 20  # proposals drawn


def plot_proposals(example: Example, proposals: Proposals, classes: Classes, path: Path) -> None:
    """The image with its ground truth, and beside it with its best proposals."""
    figure, axes = new_figure(1, 2, width=5.2, height=4.0)
    picture, target = example.image.permute(1, 2, 0).numpy(), example.target
    draw_scene(axes[0, 0], picture, target.boxes, target.labels, title="ground truth alone", classes=classes)
    _draw(
        axes[0, 1],
        example,
        proposals,
        f"the {min(SHOWN, len(proposals.boxes))} best of {len(proposals.boxes)} proposals",
    )
    _explain(figure)
    save_figure(figure, path)


def plot_before_after(example: Example, before: Proposals, after: Proposals, path: Path) -> None:
    """The best proposals on the same image before and after fine-tuning."""
    figure, axes = new_figure(1, 2, width=5.2, height=4.0)
    _draw(axes[0, 0], example, before, f"before fine-tuning: the {SHOWN} best")
    _draw(axes[0, 1], example, after, f"after fine-tuning: the {SHOWN} best")
    _explain(figure)
    save_figure(figure, path)


def _explain(figure: Figure) -> None:
    figure.suptitle("proposals orange; ground truth dashed white", x=0.01, ha="left", color=INK)


def _draw(ax: Axes, example: Example, proposals: Proposals, title: str) -> None:
    draw_scene(ax, example.image.permute(1, 2, 0).numpy(), title=title)
    draw_boxes(ax, proposals.boxes[:SHOWN], POSITIVE, width=1.0)
    draw_boxes(ax, example.target.boxes, "white", linestyle="--", width=1.4)

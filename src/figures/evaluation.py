"""Figures of tasks 15 to 17: confusion, lost objects, precision and recall, refined boxes, halves, detections.

Pictures are in their source's frame, as detections and ground truth are. Over photographs a solid line in a class's
color is what the detector says, a dashed one what it started from, a dotted white one the ground truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from src.evaluation.classifier import ClassifierMetrics
from src.evaluation.detection import RECALLS, DetectionMetrics
from src.evaluation.funnel import Funnel
from src.evaluation.halves import EDGES, HalvesSummary
from src.evaluation.instances import GroundTruth, Instances
from src.evaluation.rle import decode_masks
from src.evaluation.unannotated import Unannotated
from src.figures.base import (
    CLASS_COLORS,
    FAINT,
    INK,
    SERIES,
    STYLE,
    TRUTH,
    color_of,
    draw_boxes,
    draw_scene,
    new_figure,
    save_figure,
)
from src.structures.classes import CLASS_NAMES

COLUMNS: Final = 3  # pictures side by side
TITLE_ROOM: Final = 0.1  # inches over a title, which otherwise touches the edge or the picture above
SHADOW: Final = "#000000"  # under dotted white, so that it shows on a bright sky too
LineStyle: TypeAlias = Literal["-", "--", ":"]
PROPOSAL_STYLE: Final = "--"
TRUTH_STYLE: Final = ":"


@dataclass(frozen=True)
class Scene:
    """A test image, what it holds and what was found in it, all in the source's frame."""

    image: UInt8[np.ndarray, "h w 3"]
    truth: GroundTruth
    found: Instances


def plot_confusion(metrics: ClassifierMetrics, path: Path) -> None:
    """Draws the confusion matrix: counts, shares of the row (the true class) as color and as percentages."""
    counts = np.array(metrics.confusion)  # [4, 4]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = new_figure(width=4.6, height=3.9)
    ax = axes[0, 0]
    drawn = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        ink = "white" if shares[row, column] > 0.55 else INK
        text = f"{counts[row, column]}\n{shares[row, column]:.0%}"
        ax.text(column, row, text, ha="center", va="center", color=ink, fontsize=8.5)
    ax.set(xticks=range(len(counts)), yticks=range(len(counts)), xticklabels=CLASS_NAMES, yticklabels=CLASS_NAMES)
    ax.set(xlabel="predicted", ylabel="true", title="RoIs by true and predicted class")
    ax.grid(visible=False)
    figure.colorbar(drawn, ax=ax, shrink=0.85, label="share of the row")
    save_figure(figure, path)


def plot_funnel(funnel: Funnel, path: Path) -> None:
    """Draws what each step of the detector leaves of the objects, and what it loses."""
    rows = funnel.rows()
    figure, axes = new_figure(width=6.4, height=3.4)
    ax = axes[0, 0]
    names = ["objects", *(str(row["step"]) for row in rows)]
    left = [funnel.objects, *(int(row["left"]) for row in rows)]
    lost = [0, *(int(row["lost"]) for row in rows)]
    ax.barh(names, left, color=SERIES[0], label="left")
    ax.barh(names, lost, left=left, color=SERIES[1], label="lost at this step")
    for place, (still, gone) in enumerate(zip(left, lost, strict=True)):
        text = f"{still}" + (f" ({gone} lost)" if gone else "")
        ax.text(still + gone, place, f" {text}", va="center", fontsize=8)
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set(xlabel="objects", xlim=(0, 1.22 * max(funnel.objects, 1)), title="What each step leaves of the objects")
    _legend(ax)
    save_figure(figure, path)


def plot_precision_recall(metrics: DetectionMetrics, path: Path) -> None:
    """Draws each class's precision over recall for boxes at IoU 0.5, with its AP50 in the legend."""
    figure, axes = new_figure(width=4.8, height=3.6)
    ax = axes[0, 0]
    for name, one in metrics.by_class.items():
        if one.curve is not None:
            label = f"{name}: AP50 {one.box.ap50:.3f}"
            ax.plot(RECALLS, one.curve, color=CLASS_COLORS.get(name, INK), linewidth=1.8, label=label)
    mean = "undefined" if metrics.box.ap50 is None else f"{metrics.box.ap50:.3f}"
    ax.set(
        xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.03), title=f"boxes at IoU 0.5, mean AP50 {mean}"
    )
    _legend(ax)
    save_figure(figure, path)


def plot_halves(summary: HalvesSummary, path: Path) -> None:
    """Draws how the IoU of half boxes with their objects is distributed before and after the regressor."""
    figure, axes = new_figure(width=5.4, height=3.4)
    ax = axes[0, 0]
    rows = (
        ("before", summary.histogram_before, summary.before, FAINT),
        ("after", summary.histogram_after, summary.after, SERIES[0]),
    )
    for name, counts, mean, color in rows:
        shares = np.array(counts) / max(sum(counts), 1)
        label = f"{name} the regressor" + ("" if mean is None else f", mean {mean:.2f}")
        ax.stairs(shares, np.array(EDGES), fill=True, color=color, alpha=0.6, label=label)
        if mean is not None:
            ax.axvline(mean, color=color, linestyle="--", linewidth=1.2)
    ax.set(xlabel="IoU with the whole object", ylabel="share of the half boxes", xlim=(0, 1))
    ax.set_title("Objects cut in half, as if the RPN had proposed the halves")
    _legend(ax)
    save_figure(figure, path)


def plot_detections(scenes: Sequence[Scene], score_threshold: float, path: Path) -> None:
    """Draws pictures with their detections' masks, boxes and scores, and the ground truth dotted (task 17)."""
    figure, axes = _grid(len(scenes))
    for ax, scene in zip(axes, scenes, strict=False):
        sure = scene.found.keep(scene.found.scores >= score_threshold)
        title = f"{scene.truth.name}: {len(sure)} found, {len(scene.truth.boxes)} annotated"
        _draw_found(ax, scene, sure, title)
        _draw_truth(ax, scene.truth)
    _line_legend(figure, {f"detection scored {score_threshold:g} or more": "-", "ground truth (white)": TRUTH_STYLE})
    save_figure(figure, path)


def plot_before_after(scenes: Sequence[Scene], most: int, path: Path) -> None:
    """Draws proposals dashed, the refined boxes solid, the ground truth dotted (task 15).

    Args:
        scenes: with detections that know their proposals, best first.
        most: detections drawn per image.
        path: PNG to write.
    """
    figure, axes = _grid(len(scenes))
    for ax, scene in zip(axes, scenes, strict=False):
        best = scene.found.keep(torch.arange(min(most, len(scene.found))))
        draw_scene(ax, scene.image, best.boxes, best.labels, best.scores, title=scene.truth.name)
        for proposal, label in zip(
            best.proposals if best.proposals is not None else (), best.labels.tolist(), strict=False
        ):
            draw_boxes(ax, proposal[None], color_of(label), linestyle=PROPOSAL_STYLE, width=1.2)
        _draw_truth(ax, scene.truth)
    _line_legend(figure, {"proposal": PROPOSAL_STYLE, "refined": "-", "ground truth (white)": TRUTH_STYLE})
    save_figure(figure, path)


def plot_unannotated(scene: Scene, pick: Unannotated | None, path: Path) -> None:
    """Draws the picture with its annotation, and beside it the one detection that the annotation lacks (task 17).

    Args:
        scene: the one that `pick` names; any picture if nothing was picked.
        pick: from `find_unannotated`; None writes a figure that says so.
        path: PNG to write.
    """
    figure, axes = new_figure(1, 2, width=4.4, height=3.6)
    left, right = axes[0]
    truth = scene.truth
    masks = decode_masks(truth.masks, truth.height, truth.width)
    title = f"{truth.name}: what is annotated"
    draw_scene(left, scene.image, truth.boxes, truth.labels, masks=masks, title=title)
    if pick is None:
        draw_scene(right, scene.image, title="nothing found away from annotated objects")
    else:
        one = scene.found.keep(scene.found.labels.new_tensor([pick.detection]))
        known = " (a known omission)" if pick.known else ""
        _draw_found(right, scene, one, f"found beyond that: {CLASS_NAMES[pick.label]} {pick.probability:.2f}{known}")
    save_figure(figure, path)


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    """Panels for `count` pictures, three in a row; those left over are blank."""
    columns = max(1, min(COLUMNS, count))
    figure, axes = new_figure(max(1, math.ceil(count / columns)), columns, width=4.2, height=3.45)
    figure.set_layout_engine("constrained", h_pad=TITLE_ROOM)
    panels = list(axes.flat)
    for ax in panels[count:]:
        ax.set_axis_off()
    return figure, panels


def _draw_found(ax: Axes, scene: Scene, found: Instances, title: str) -> None:
    masks = None
    if found.masks is not None:
        masks = decode_masks(found.masks, scene.truth.height, scene.truth.width)
    draw_scene(ax, scene.image, found.boxes, found.labels, found.scores, masks, title=title)


def _draw_truth(ax: Axes, truth: GroundTruth) -> None:
    """Dotted white over black; crowd regions are no single object's truth and are left out."""
    boxes = truth.boxes[~truth.crowd]
    draw_boxes(ax, boxes, SHADOW, width=1.6)
    draw_boxes(ax, boxes, TRUTH, linestyle=TRUTH_STYLE, width=1.6)


def _line_legend(figure: Figure, styles: Mapping[str, LineStyle]) -> None:
    """What each line style means, under the panels."""
    lines = [Line2D([], [], color=INK, linestyle=style, label=name) for name, style in styles.items()]
    with mpl.rc_context(STYLE):
        figure.legend(handles=lines, loc="outside lower center", ncols=len(lines))


def _legend(ax: Axes) -> None:
    """A legend where there is something to explain."""
    if ax.get_legend_handles_labels()[0]:
        with mpl.rc_context(STYLE):
            ax.legend()

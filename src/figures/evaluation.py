"""Figures of tasks 15 to 17: confusion, lost objects, precision and recall, refined boxes, halves, detections.

Pictures are in their source's frame, as detections and ground truth are. Over photographs a solid line in a class's
color is what the detector says, a dashed one what it started from, a dotted white one the ground truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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
from src.evaluation.unannotated import Unannotated
from src.figures.base import (
    FAINT,
    INK,
    SERIES,
    STYLE,
    TAG_SIZE,
    TRUTH,
    draw_boxes,
    draw_scene,
    new_figure,
    save_figure,
)
from src.figures.classes import MOST_NAMED, LineStyle, color_of, label_text, line_of, shorten
from src.figures.view import View
from src.structures.classes import Classes

FEW_CLASSES: Final = 6  # whose names stand side by side under a matrix, or in a legend over the curves
MOST_CELLS: Final = 16  # classes, with background, whose cells have room for numbers
WIDEST: Final = 14.0  # inches
MOST_TICKS: Final = 60
COLUMNS: Final = 3  # pictures side by side
TITLE_ROOM: Final = 0.1  # inches over a title, which otherwise touches the edge or the picture above
SHADOW: Final = "#000000"  # under dotted white, so that it shows on a bright sky too
PROPOSAL_STYLE: Final = "--"
TRUTH_STYLE: Final = ":"


@dataclass(frozen=True)
class Scene:
    """A test image, what it holds and what was found in it.

    Attributes:
        image: as it is drawn, which may be smaller.
        truth: in the image's own pixels.
        found: in the image's own pixels.
    """

    image: UInt8[np.ndarray, "h w 3"]
    truth: GroundTruth
    found: Instances

    @property
    def view(self) -> View:
        """From the image's own pixels to those that are drawn."""
        return View(self.truth.height, self.truth.width, *self.image.shape[:2])


def plot_confusion(metrics: ClassifierMetrics, path: Path) -> None:
    """Draws the confusion matrix: shares of the row (the true class) as color, and as numbers where there is room."""
    counts = np.array(metrics.confusion)  # [k, k]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    width = min(4.6 + 0.55 * max(0, len(counts) - 4), WIDEST)
    figure, axes = new_figure(width=width, height=3.9 + width - 4.6)
    ax = axes[0, 0]
    drawn = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape) if len(counts) <= MOST_CELLS else ():
        ink = "white" if shares[row, column] > 0.55 else INK
        text = f"{counts[row, column]}\n{shares[row, column]:.0%}"
        ax.text(column, row, text, ha="center", va="center", color=ink, fontsize=8.5)
    _name_ticks(ax, list(metrics.by_class))
    ax.set(xlabel="predicted", ylabel="true", title="RoIs by true and predicted class")
    ax.grid(visible=False)
    figure.colorbar(drawn, ax=ax, shrink=0.85, label="share of the row")
    save_figure(figure, path)


def _name_ticks(ax: Axes, names: Sequence[str]) -> None:
    """Writes classes along both axes of a matrix; every second, third, ... where they are many."""
    places = range(0, len(names), math.ceil(len(names) / MOST_TICKS))
    texts = [label_text(shorten(names[place])) for place in places]
    ax.set(xticks=places, yticks=places, xticklabels=texts, yticklabels=texts)
    if len(names) > FEW_CLASSES or max(map(len, texts)) > 12:
        for text in ax.get_xticklabels():
            text.set(rotation=45, ha="right", rotation_mode="anchor")


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
        ax.text(still + gone, place, f" {text}", va="center", fontsize=TAG_SIZE)
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set(xlabel="objects", xlim=(0, 1.22 * max(funnel.objects, 1)), title="What each step leaves of the objects")
    figure.legend(loc="outside lower center", ncols=2)  # the bars fill the panel
    save_figure(figure, path)


def plot_precision_recall(metrics: DetectionMetrics, path: Path) -> None:
    """Draws each class's precision over recall for boxes at IoU 0.5, with its AP50 in the legend.

    Of many classes the best and the worst are named, the others are thin lines.
    """
    known = [name for name, one in metrics.by_class.items() if one.curve is not None]
    named = known
    if len(known) > MOST_NAMED:
        by_score = sorted(known, key=lambda name: -(metrics.by_class[name].box.ap50 or 0))
        named = by_score[: MOST_NAMED // 2] + by_score[-(MOST_NAMED // 2) :]
    figure, axes = new_figure(width=4.8 if len(named) <= FEW_CLASSES else 7.4, height=3.6)
    ax = axes[0, 0]
    lines: dict[str, Line2D] = {}
    for label, (name, one) in enumerate(metrics.by_class.items(), 1):
        if one.curve is not None:
            text = label_text(f"{shorten(name)}: AP50 {one.box.ap50:.3f}")
            width = 1.8 if name in named else 0.6
            look = {"color": color_of(label), "linestyle": line_of(label)}
            (lines[name],) = ax.plot(RECALLS, one.curve, linewidth=width, label=text, **look)
    mean = "undefined" if metrics.box.ap50 is None else f"{metrics.box.ap50:.3f}"
    ax.set(
        xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.03), title=f"boxes at IoU 0.5, mean AP50 {mean}"
    )
    if len(named) > FEW_CLASSES:
        ax.legend(handles=[lines[name] for name in named], loc="upper left", bbox_to_anchor=(1.01, 1.02))
    else:
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


def plot_detections(scenes: Sequence[Scene], classes: Classes, score_threshold: float, path: Path) -> None:
    """Draws pictures with their detections' masks, boxes and scores, and the ground truth dotted (task 17)."""
    figure, axes = _grid(len(scenes))
    for ax, scene in zip(axes, scenes, strict=False):
        sure = scene.found.keep(scene.found.scores >= score_threshold)
        title = f"{scene.truth.name}: {len(sure)} found, {len(scene.truth.boxes)} annotated"
        _draw_found(ax, scene, sure, classes, title)
        _draw_truth(ax, scene)
    _line_legend(figure, {f"detection scored {score_threshold:g} or more": "-", "ground truth (white)": TRUTH_STYLE})
    save_figure(figure, path)


def plot_before_after(scenes: Sequence[Scene], classes: Classes, most: int, path: Path) -> None:
    """Draws proposals dashed, the refined boxes solid, the ground truth dotted (task 15).

    Args:
        scenes: with detections that know their proposals, best first.
        classes: what labels stand for.
        most: detections drawn per image.
        path: PNG to write.
    """
    figure, axes = _grid(len(scenes))
    for ax, scene in zip(axes, scenes, strict=False):
        best = scene.found.keep(torch.arange(min(most, len(scene.found))))
        boxes = scene.view.boxes(best.boxes)
        draw_scene(ax, scene.image, boxes, best.labels, best.scores, title=scene.truth.name, classes=classes)
        for proposal, label in zip(
            best.proposals if best.proposals is not None else (), best.labels.tolist(), strict=False
        ):
            draw_boxes(ax, scene.view.boxes(proposal[None]), color_of(label), linestyle=PROPOSAL_STYLE, width=1.2)
        _draw_truth(ax, scene)
    _line_legend(figure, {"proposal": PROPOSAL_STYLE, "refined": "-", "ground truth (white)": TRUTH_STYLE})
    save_figure(figure, path)


def plot_unannotated(scene: Scene, pick: Unannotated | None, classes: Classes, path: Path) -> None:
    """Draws the picture with its annotation, and beside it the one detection that the annotation lacks (task 17).

    Args:
        scene: the one that `pick` names; any picture if nothing was picked.
        pick: from `find_unannotated`; None writes a figure that says so.
        classes: what labels stand for.
        path: PNG to write.
    """
    figure, axes = new_figure(1, 2, width=4.4, height=3.6)
    left, right = axes[0]
    truth = scene.truth
    title = f"{truth.name}: what is annotated"
    masks, boxes = scene.view.masks(truth.masks), scene.view.boxes(truth.boxes)
    draw_scene(left, scene.image, boxes, truth.labels, masks=masks, title=title, classes=classes)
    if pick is None:
        draw_scene(right, scene.image, title="nothing found away from annotated objects")
    else:
        one = scene.found.keep(scene.found.labels.new_tensor([pick.detection]))
        known = " (a known omission)" if pick.known else ""
        title = f"found beyond that: {shorten(pick.class_name)} {pick.probability:.2f}{known}"
        _draw_found(right, scene, one, classes, title)
    save_figure(figure, path)


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    """Panels for `count` pictures, three in a row; those left over are blank."""
    columns = max(1, min(COLUMNS, count))
    figure, axes = new_figure(max(1, math.ceil(count / columns)), columns, width=4.2, height=3.7)
    figure.set_layout_engine("constrained", h_pad=TITLE_ROOM)
    panels = list(axes.flat)
    for ax in panels[count:]:
        ax.set_axis_off()
    return figure, panels


def _draw_found(ax: Axes, scene: Scene, found: Instances, classes: Classes, title: str) -> None:
    masks, boxes = None if found.masks is None else scene.view.masks(found.masks), scene.view.boxes(found.boxes)
    draw_scene(ax, scene.image, boxes, found.labels, found.scores, masks, title=title, classes=classes)


def _draw_truth(ax: Axes, scene: Scene) -> None:
    """Dotted white over black; crowd regions are no single object's truth and are left out."""
    boxes = scene.view.boxes(scene.truth.boxes[~scene.truth.crowd])
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

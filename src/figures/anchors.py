"""Task 2's figures: histograms of scale and aspect ratio with their modes, and how well anchors cover the objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from src.figures.base import FAINT, INK, PAGE, SERIES, TAG_SIZE, new_figure, save_figure, set_title
from src.figures.classes import MOST_DRAWN, color_of, label_text, largest, line_of, shorten
from src.plain_rpn.statistics import BoxStatistics, Histogram

OVERALL: Final = "all classes"
OVERALL_COLOR: Final = SERIES[3]  # no class has it


def plot_histograms(overall: BoxStatistics, by_class: Mapping[str, BoxStatistics], path: Path) -> None:
    """Draws scale above ratio, all classes first, then each class; the mode of each is marked and written out.

    Args:
        overall: histograms of all objects.
        by_class: histograms by class name in label order, with the same bins.
        path: PNG to write.
    """
    drawn = largest({name: group.objects for name, group in by_class.items()}, MOST_DRAWN)
    groups = [(OVERALL, overall, OVERALL_COLOR)]
    groups += [(shorten(name), by_class[name], color_of(label)) for name, label in drawn.items()]
    figure, axes = new_figure(2, len(groups), width=PAGE / len(groups), height=2.3)
    for column, (name, group, color) in enumerate(groups):
        _draw_histogram(axes[0, column], group.scale, group.scale_mode, color)
        title = f"{name} ({group.objects})\nscale{_mode_text(group.scale_mode, ' px')}"
        set_title(axes[0, column], title)
        axes[0, column].set_xlabel("scale, pixels")
        mode = group.ratio_mode
        _draw_histogram(axes[1, column], group.log_ratio, None if mode is None else float(np.log2(mode)), color)
        set_title(axes[1, column], f"ratio{_mode_text(mode, '')}")
        axes[1, column].set_xlabel("height / width")
        axes[1, column].set_xticks(range(-2, 3), ["1/4", "1/2", "1", "2", "4"])
    for row in axes:
        row[0].set_ylabel("objects")
    save_figure(figure, path)


def _mode_text(mode: float | None, unit: str) -> str:
    return "" if mode is None else f", mode {mode:.3g}{unit}"


def _draw_histogram(ax: Axes, histogram: Histogram, mode: float | None, color: str) -> None:
    """Bars of equal width; the highest one in ink, with a line through its middle."""
    bars = ax.bar(histogram.centers, histogram.counts, width=np.diff(histogram.edges), color=color, alpha=0.55)
    for bar in bars:
        bar.set_edgecolor("white")
    if mode is not None:
        bars[int(np.argmin(np.abs(histogram.centers - mode)))].set_alpha(1.0)
        ax.axvline(mode, color=INK, linewidth=1.2, linestyle="--")
    ax.grid(visible=False, axis="x")


def plot_best_anchor_iou(
    part_a: Mapping[str, Float[np.ndarray, " _"]], fpn: Float[np.ndarray, " n"], path: Path
) -> None:
    """Draws the share of objects whose best anchor has at least an IoU, against that IoU.

    Args:
        part_a: best IoUs with part (a)'s anchors by class name in label order, every object in one class.
        fpn: best IoUs of all objects with part (b)'s anchors.
        path: PNG to write.
    """
    figure, axes = new_figure(1, 1, width=6.6, height=3.8)
    ax = axes[0, 0]
    everything = np.concatenate([*part_a.values(), np.zeros(0)])
    _draw_shares(ax, everything, f"part (a), {OVERALL}", OVERALL_COLOR, width=2.2)
    for name, label in largest({name: len(ious) for name, ious in part_a.items()}, MOST_DRAWN).items():
        text = label_text(f"part (a), {shorten(name)}")
        _draw_shares(ax, part_a[name], text, color_of(label), width=1.3, linestyle=line_of(label))
    _draw_shares(ax, fpn, "part (b): 5 sizes x 3 ratios", INK, width=2.2)
    for iou, meaning in ((0.3, "negative below"), (0.7, "positive above")):
        ax.axvline(iou, color=FAINT, linewidth=1.0, linestyle=":")
        ax.text(iou, 1.02, meaning, color=INK, fontsize=TAG_SIZE, ha="center")
    ax.set(xlim=(0, 1), ylim=(0, 1.08), xlabel="IoU of an object with its best anchor", ylabel="share of objects")
    if len(everything) or len(fpn):
        ax.legend(loc="lower left")
    save_figure(figure, path)


def _draw_shares(
    ax: Axes, ious: Float[np.ndarray, " n"], name: str, color: str, *, width: float, linestyle: str = "-"
) -> None:
    """A falling step curve; nothing for an empty class."""
    if len(ious):
        ordered = np.sort(ious)
        shares = 1 - np.arange(len(ordered)) / len(ordered)
        corners = np.concatenate([[0.0], ordered, [ordered[-1]]]), np.concatenate([[1.0], shares, [0.0]])
        ax.step(*corners, where="pre", color=color, linewidth=width, linestyle=linestyle, label=name)

"""A study's two figures: differences by variant, and each loss's share of the gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pandas as pd
from matplotlib.axes import Axes

from src.figures.base import FAINT, INK, SERIES, new_figure, save_figure, term_name
from src.reporting.answers.studies import Difference
from src.reporting.formatting import metric_name

PULL: Final = "pull_"
COLUMNS: Final = 3  # panels side by side
BELOW: Final = 0.34  # rows between a bar's middle and its interval over test images


def plot_differences(
    frame: pd.DataFrame, baseline: str, compared: Mapping[str, Sequence[Difference]], path: Path
) -> None:
    """Draws a panel a metric: variants from top to bottom, each seed's difference from the baseline, and their mean.

    Args:
        frame: a row a run with `variant`, `seed` and the metrics.
        baseline: the variant that is 0.
        compared: differences by metric; no metric without any.
        path: PNG to write.
    """
    variants = list(dict.fromkeys(one.variant for found in compared.values() for one in found))
    columns = min(COLUMNS, len(compared))
    rows = -(-len(compared) // columns)
    figure, axes = new_figure(rows, columns, width=3.6, height=0.75 + 0.3 * len(variants))
    for place, (ax, (metric, found)) in enumerate(zip(axes.flat, compared.items(), strict=False)):
        wide = frame.pivot(index="seed", columns="variant", values=metric)
        _draw_panel(ax, wide.sub(wide[baseline], axis=0), found, variants)
        ax.set_title(metric_name(metric))
        ax.set_yticks(range(len(variants)), variants if place % columns == 0 else [""] * len(variants))
    for ax in axes.flat[len(compared) :]:
        ax.set_axis_off()
    save_figure(figure, path)


def _draw_panel(ax: Axes, paired: pd.DataFrame, found: Sequence[Difference], variants: Sequence[str]) -> None:
    ax.axvline(0, color=INK, linewidth=0.8)
    for one in found:
        row = variants.index(one.variant)
        color = SERIES[0] if one.is_shown else FAINT
        ax.barh(row, one.mean, height=0.5, color=color, alpha=0.9 if one.is_shown else 0.4)
        if one.margin is not None:
            ax.plot([one.mean - one.margin, one.mean + one.margin], [row, row], color=INK, linewidth=1.2)
        if one.images is not None:
            ax.plot(one.images, [row + BELOW, row + BELOW], color=SERIES[1], linewidth=2)
        values = paired[one.variant].dropna()
        ax.plot(values, [row] * len(values), "o", color=INK, markersize=3, markerfacecolor="white")
    ax.set_ylim(len(variants) - 0.5, -0.5)
    ax.set_xlabel("difference")


def has_pulls(frame: pd.DataFrame) -> bool:
    """Whether any run measured the gradients of its losses."""
    return any(column.startswith(PULL) and frame[column].notna().any() for column in frame)


def plot_pulls(frame: pd.DataFrame, path: Path) -> None:
    """Draws a bar a variant: the losses' shares of the gradient, means over seeds, one after the other.

    Args:
        frame: a row a run with `variant` and columns `pull_<loss>` in 0..1.
        path: PNG to write.
    """
    columns = [column for column in frame if column.startswith(PULL)]
    means = frame.groupby("variant", sort=False)[columns].mean().dropna()
    figure, axes = new_figure(width=7.0, height=1.0 + 0.32 * len(means))
    left = pd.Series(0.0, index=means.index)
    for column, color in zip(columns, SERIES, strict=False):
        axes[0, 0].barh(
            range(len(means)), means[column], left=left, color=color, label=term_name(column.removeprefix(PULL))
        )
        left = left + means[column]
    axes[0, 0].set_yticks(range(len(means)), [str(variant) for variant in means.index])
    axes[0, 0].invert_yaxis()
    axes[0, 0].set_xlim(0, 1)
    axes[0, 0].set_xlabel("share of the gradients' norms")
    axes[0, 0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(columns))
    save_figure(figure, path)

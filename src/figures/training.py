"""Training curves: each loss and their total over iterations, train and test (tasks 4 to 7, 14, 16)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd
from matplotlib.axes import Axes

from src.core.errors import invalid
from src.figures.base import INK, SERIES, TERMS, new_figure, plot_curves, save_figure, term_name

SMOOTHING: Final = 0.04  # share of the iterations in the running mean
COLUMNS: Final = 3  # panels side by side, before a second row begins
TOTAL: Final = "total"
MARKERS: Final = {"test": "o", "validation": "^"}


def plot_history(
    train_csv: Path, measured: Mapping[str, Path], terms: Mapping[str, str] | Sequence[str], title: str, path: Path
) -> None:
    """Draws one panel a loss term and one for the weighted total; train faint and smoothed, the others with markers.

    Args:
        train_csv: columns `iteration`, the terms (raw), `total` (weighted sum); a row per iteration.
        measured: by name (test, validation), the same terms, measured now and then. A term it lacks is not drawn.
        terms: columns to draw; as a mapping, column to its name in the panel's title.
        title: above all panels.
        path: PNG to write.

    Raises:
        InputError: a file has no rows, or the training's file lacks a term.
    """
    names = dict(terms) if isinstance(terms, Mapping) else {term: term_name(term) for term in terms}
    names |= {TOTAL: "total (weighted)"}
    train = _read(train_csv, ("iteration", *names))
    others = {name: _read(csv, ("iteration",)) for name, csv in measured.items()}
    rows = 1 if len(names) <= COLUMNS else 2
    figure, axes = new_figure(rows, -(-len(names) // rows), width=3.2, height=2.7)
    for ax, (column, name) in zip(axes.flat, names.items(), strict=False):
        _draw_panel(ax, column, train, others, TERMS.get(column, SERIES[0]))
        ax.set_title(name)
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, color=INK, fontweight="bold")
    save_figure(figure, path)


def _draw_panel(ax: Axes, column: str, train: pd.DataFrame, others: Mapping[str, pd.DataFrame], color: str) -> None:
    """One loss: raw and smoothed training curve, and what was measured on other images."""
    smooth = max(1, round(SMOOTHING * len(train)))
    plot_curves(ax, train, {column: "train"}, smooth=smooth, colors=[color])
    known = {name: frame for name, frame in others.items() if column in frame}
    for name, frame in known.items():
        style: dict[str, Any] = {"linestyle": "--", "markersize": 4, "linewidth": 1.2, "marker": MARKERS[name]}
        plot_curves(ax, frame, {column: name}, colors=[INK], **style)
    ax.set_ylabel("loss")
    tallest = max(train[column].quantile(0.99), *(frame[column].max() for frame in known.values()), 0.0)
    if tallest > 0:  # a first step far above the rest would flatten all that follows
        ax.set_ylim(0, 1.08 * tallest)


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A history's table, with the columns that must be there."""
    frame = pd.read_csv(path)
    missing = [column for column in columns if column not in frame]
    if missing or frame.empty:
        raise invalid(path, f"rows with the columns {', '.join(columns)}", f"{len(frame)} rows without {missing}")
    return frame

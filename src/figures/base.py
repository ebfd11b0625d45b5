"""The look that every figure shares, and the few drawings they are made of: scenes, boxes, curves.

Figures are made without pyplot, so there is no global state and no window: `new_figure`, draw, `save_figure`.
The same input gives the same bytes. Sizes are in inches; coordinates in a scene are the picture's pixels.

A figure is at most as wide as the page, `PAGE` inches, so that a text of 8 points is read at 11 pixels in a report that
fills its column: wider ones are drawn smaller with as many more dots an inch. Texts then take more of a panel's room.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from src.core.files import atomic_write
from src.figures.classes import LINES, color_of, shorten
from src.figures.tags import place_tag
from src.structures.classes import Classes

DPI: Final = 110
PAGE: Final = 9.0  # inches; the report shows that at 912 pixels of CSS
CHARACTER: Final = 0.56  # mean width of a character, in font sizes
INK: Final = "#2b2f36"
FAINT: Final = "#9aa1ab"
TAG_SIZE: Final = 8.0  # points; no text of a figure is smaller

POSITIVE: Final = "#e69f00"  # positive anchors and proposals
NEGATIVE: Final = "#56b4e9"  # negative ones
TRUTH: Final = "#ffffff"  # ground truth boxes over photographs
SERIES: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")

TERMS: Final = {  # a loss term has one color in every figure
    "objectness": SERIES[1],
    "rpn_regression": SERIES[2],
    "classification": SERIES[3],
    "box_regression": SERIES[4],
    "mask": SERIES[5],
}

STYLE: Final[Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same bytes on every machine
    "font.size": 9,
    "text.color": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 5,
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e7e9ec",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.prop_cycle": cycler(color=SERIES),
}
# For the whole process, not in a context: `ax.set_title` and `ax.legend` look the style up when they are called.
mpl.rcParams.update(STYLE)


def new_figure(rows: int = 1, columns: int = 1, width: float = 4.0, height: float = 3.0) -> tuple[Figure, np.ndarray]:
    """Makes a figure in the project's style.

    Args:
        rows: panels from top to bottom.
        columns: panels from left to right.
        width: inches of ONE panel, where all of them fit the page; else its share of `PAGE`.
        height: inches of ONE panel, its title and labels included; likewise, in proportion.

    Returns:
        The figure and its axes as an object array [rows, columns], always two-dimensional.
    """
    shrunk = min(1.0, PAGE / (width * columns))
    size = shrunk * width * columns, shrunk * height * rows
    figure = Figure(figsize=size, dpi=DPI / shrunk, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes


def draw_scene(
    ax: Axes,
    image: np.ndarray,
    boxes: Any = None,
    labels: Any = None,
    scores: Any = None,
    masks: Any = None,
    *,
    title: str = "",
    classes: Classes | None = None,
) -> None:
    """Draws a picture with its objects: translucent outlined masks, boxes, and tags such as `person 0.93`.

    Arrays or tensors may be given; n objects. May be called again on the same axes with other boxes.

    Args:
        ax: where to draw.
        image: [H, W, 3] uint8, or float, clipped to 0..1.
        boxes: [n, 4] x1 y1 x2 y2 in the picture's pixels.
        labels: [n] class numbers; they choose the colors.
        scores: [n] in 0..1, shown with two digits.
        masks: [n, H, W] bool.
        title: above the picture.
        classes: what the labels stand for, for the tags' words.
    """
    image = _array(image)
    image = image if image.dtype == np.uint8 else np.clip(image.astype(np.float32), 0, 1)
    ax.imshow(image)
    ax.set_axis_off()
    if title:
        set_title(ax, title)
    count = max((len(given) for given in (boxes, labels, masks) if given is not None), default=0)
    colors = [color_of(int(labels[i]) if labels is not None else 0) for i in range(count)]
    if masks is not None:
        draw_masks(ax, _array(masks), colors)
    for i, box in enumerate([] if boxes is None else _array(boxes)):
        name = "" if labels is None or classes is None else classes.name_of(int(labels[i]))
        tag = tag_text(name, None if scores is None else float(scores[i]))
        draw_boxes(ax, box[None], colors[i], tag=tag)
    _keep_view(ax, image)


def set_title(ax: Axes, text: str) -> None:
    """Writes a panel's title letter by letter (a file name may hold dollar signs), on as many lines as it needs."""
    place = ax.get_subplotspec()
    share = 1.0 if place is None else len(place.colspan) / place.get_gridspec().ncols
    room = 72 * share * ax.figure.bbox.width / ax.figure.dpi / (CHARACTER * mpl.rcParams["axes.titlesize"])
    lines = [textwrap.fill(line, max(8, int(room))) for line in text.splitlines()]
    ax.set_title("\n".join(lines), parse_math=False)


def draw_boxes(ax: Axes, boxes: Any, color: str, linestyle: str = "-", width: float = 1.6, tag: str = "") -> None:
    """Draws boxes [n, 4] (x1 y1 x2 y2, pixel edges) in one color and line style, each with the same tag."""
    for x1, y1, x2, y2 in _array(boxes).reshape(-1, 4).tolist():
        # Pixel edges: imshow puts the first pixel's edge at -0.5.
        frame = Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=width)
        frame.set_linestyle(linestyle)  # type: ignore[arg-type]  # its stub lists the styles one by one
        ax.add_patch(frame)
        if tag:
            place_tag(ax, (x1 - 0.5, y1 - 0.5, x2 - 0.5, y2 - 0.5), tag, color, TAG_SIZE)


def draw_masks(ax: Axes, masks: np.ndarray, colors: Sequence[str]) -> None:
    """Lays masks [n, H, W] over the picture, translucent and outlined."""
    if not len(masks):
        return
    overlay = np.zeros((*masks.shape[1:], 4), np.float32)
    for mask, color in zip(masks.astype(bool), colors, strict=True):
        overlay[mask] = to_rgba(color, 0.42)
    ax.imshow(overlay, interpolation="nearest")
    for mask, color in zip(masks.astype(bool), colors, strict=True):
        if mask.any() and not mask.all():
            rows, columns = _around(mask.any(axis=1)), _around(mask.any(axis=0))
            part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # matplotlib keeps all that it is given
            if min(part.shape) > 1:  # a picture of one row or column has no outlines
                ax.contour(columns, rows, part.astype(np.float32), levels=[0.5], colors=[color], linewidths=1.2)


def _around(inside: np.ndarray) -> np.ndarray:
    """The indices from the first true one to the last, and one more on either side where there is one."""
    (true,) = np.nonzero(inside)
    return np.arange(max(true[0] - 1, 0), min(true[-1] + 2, len(inside)))


def tag_text(name: str, score: float | None) -> str:
    """`person 0.93`, `person` or `0.93`: what is known of an object."""
    name = shorten(name)
    return f"{name} {score:.2f}".strip() if score is not None else name


def plot_curves(
    ax: Axes,
    frame: pd.DataFrame,
    columns: Mapping[str, str] | Sequence[str],
    smooth: int = 1,
    *,
    x: str = "iteration",
    colors: Sequence[str] = SERIES,
    **line: Any,
) -> None:
    """Plots columns of a table as curves: faint raw values and a bold running mean; several differ in line style too.

    Args:
        ax: where to draw.
        frame: the table.
        columns: which columns; as a mapping, column to its name in the legend.
        smooth: rows in the running mean, centered; 1 draws the raw values alone.
        x: the column along the horizontal axis; also its label.
        colors: one per column, repeated if there are more columns.
        line: anything `Axes.plot` takes, for the bold line (e.g. `marker="o"`, `linestyle="--"`).
    """
    names = columns if isinstance(columns, Mapping) else {column: column for column in columns}
    for i, (column, name) in enumerate(names.items()):
        color, values = colors[i % len(colors)], frame[column]
        if smooth > 1:
            ax.plot(frame[x], values, color=color, alpha=0.22, linewidth=0.8)
            values = values.rolling(smooth, min_periods=1, center=True).mean()
        look = {"color": color, "linestyle": LINES[i % len(LINES)], "linewidth": 1.8, "label": name}
        ax.plot(frame[x], values, **{**look, **line})
    ax.set_xlabel(x)
    if any(names.values()):
        ax.legend()


def term_name(term: str) -> str:
    """A loss term's name for people: `rpn_regression` is RPN regression."""
    return term.replace("_", " ").replace("rpn", "RPN")


def save_figure(figure: Figure, path: Path) -> None:
    """Writes the figure as PNG, atomically and without a date or version inside, and empties it."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
    figure.clear()


def _keep_view(ax: Axes, image: np.ndarray) -> None:
    """Shows the picture and nothing beyond it, whatever was drawn over its border."""
    height, width = image.shape[:2]
    ax.set_xlim(-0.5, width - 0.5)
    ax.set_ylim(height - 0.5, -0.5)


def _array(values: Any) -> np.ndarray:
    """A numpy array of an array, a list or a tensor on any device."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)

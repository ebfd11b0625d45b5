"""Small readable tags on a picture: inside it, and beside the ones that are already there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.text import Text

Box = tuple[float, float, float, float]  # x1 y1 x2 y2 in the picture's pixels

PADDING: Final = 1.6  # points around the text
CHARACTER: Final = 0.62  # mean width of a character, in font sizes
GID: Final = "tag"


def place_tag(ax: Axes, box: Box, text: str, color: str, size: float) -> Text:
    """Writes `text` on a colored ground at the best free place around or in `box`, never outside the picture.

    Args:
        ax: axes with the picture drawn, row 0 on top.
        box: what the tag names.
        text: a few words.
        color: of the ground; the text is white or black, whichever reads better.
        size: points.
    """
    pixels = _pixels_per_point(ax)
    width = (len(text) * CHARACTER * size + 2 * PADDING) * pixels
    height = (1.25 * size + 2 * PADDING) * pixels
    taken = [other.tag_box for other in ax.texts if other.get_gid() == GID]  # type: ignore[attr-defined]
    places = [_into_picture(ax, place) for place in _places(box, width, height)]
    best = min(places, key=lambda place: sum(_overlap(place, other) for other in taken))
    ground = {"boxstyle": "square,pad=0.2", "facecolor": color, "edgecolor": "none", "alpha": 0.88}
    inset = PADDING * pixels
    place = best[0] + inset, best[3] - inset
    written = ax.text(*place, text, fontsize=size, color=ink_on(color), bbox=ground, clip_on=True, parse_math=False)
    written.set_verticalalignment("bottom")
    written.set_gid(GID)
    written.tag_box = best  # type: ignore[attr-defined]
    return written


def _places(box: Box, width: float, height: float) -> Iterator[Box]:
    """Where a tag may stand, best first: over the box, in its upper corners, under it, in its lower corners."""
    x1, y1, x2, y2 = box
    corners = [(x1, y1 - height), (x1, y1), (x2 - width, y1 - height), (x2 - width, y1)]
    corners += [(x1, y2), (x1, y2 - height), (x2 - width, y2), (x2 - width, y2 - height)]
    corners += [(x1, y1 + row * height) for row in range(1, 6)]
    for left, top in corners:
        yield left, top, left + width, top + height


def _into_picture(ax: Axes, place: Box) -> Box:
    """The place moved, if need be, to lie inside the picture."""
    left, right = sorted(ax.get_xlim())
    top, bottom = sorted(ax.get_ylim())
    x = max(min(place[0], right - (place[2] - place[0])), left)
    y = max(min(place[1], bottom - (place[3] - place[1])), top)
    return x, y, x + place[2] - place[0], y + place[3] - place[1]


def _overlap(a: Box, b: Box) -> float:
    """Area that two places share."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)


def _pixels_per_point(ax: Axes) -> float:
    """Picture pixels a typographic point covers, before the final layout: a good estimate."""
    inches = ax.figure.dpi_scale_trans.inverted().transform(ax.figure.bbox.size)
    place = ax.get_position()
    across = abs(ax.get_xlim()[1] - ax.get_xlim()[0]) / (place.width * inches[0] * 72)
    down = abs(ax.get_ylim()[1] - ax.get_ylim()[0]) / (place.height * inches[1] * 72)
    return float(max(across, down))


def ink_on(ground: str) -> str:
    """White or black, whichever has the higher contrast to a color (WCAG 2's ratio; at least 4.58 for any color)."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in to_rgb(ground)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"

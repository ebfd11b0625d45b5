"""How a class looks in every figure: color and line by its label, its name cut to what fits, and which are named."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from matplotlib.colors import to_hex

NO_CLASS: Final = "#7f868f"  # background, and what has no label
# Okabe and Ito's palette, told apart with any common color blindness; a red of Tol's in place of their yellow, which
# does not show on white, and without their purple, which stands for all classes together.
FIRST_COLORS: Final = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#882255")
TURN: Final = 0.618034  # of the color wheel between two classes: no number of turns comes back to a hue
LIGHTNESSES: Final = (0.28, 0.7, 0.45, 0.58)  # in turns, for eyes that do not see hues
SATURATION: Final = 0.75
START: Final = 0.1  # with these, 40 classes are as far apart as a search found
LineStyle: TypeAlias = Literal["-", "--", "-.", ":"]
LINES: Final[tuple[LineStyle, ...]] = ("-", "--", "-.", ":")
LONGEST: Final = 22  # characters of a name in a figure
MOST_NAMED: Final = 12  # classes that a legend lists
MOST_DRAWN: Final = 5  # classes with histograms of their own, those with the most objects


def color_of(label: int) -> str:
    """The color of a class by its label, 1 and up, in any set and figure; gray for any other number."""
    if label < 1:
        return NO_CLASS
    if label <= len(FIRST_COLORS):
        return FIRST_COLORS[label - 1]
    beyond = label - len(FIRST_COLORS) - 1
    lightness = LIGHTNESSES[beyond % len(LIGHTNESSES)]
    return to_hex(colorsys.hls_to_rgb((START + TURN * beyond) % 1, lightness, SATURATION))


def line_of(label: int) -> LineStyle:
    """The line style of a class's curve: beside its color a cue for eyes that do not tell colors apart."""
    return LINES[(label - 1) % len(LINES)]


def shorten(name: str) -> str:
    """A name with its end cut off where it is long."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def label_text(text: str) -> str:
    """A text as matplotlib's legends and ticks show it letter by letter: no formula, and not hidden."""
    plain = text.replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain


def largest(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """The `count` classes with the most objects, in label order, with their labels.

    Args:
        sizes: objects of each class by name, in label order.
        count: at most.
    """
    labels = {name: label for label, name in enumerate(sizes, 1)}
    first = sorted(sizes, key=lambda name: (-sizes[name], labels[name]))[:count]
    return {name: labels[name] for name in sorted(first, key=labels.__getitem__)}

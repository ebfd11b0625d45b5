"""Places for emoji objects to stand in: procedural backgrounds, and clutter that is of none of the three classes.

All of it is drawn from a numpy generator; nothing is read but the clutter's vector art.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Float32
from PIL import Image

from src.sources.emoji.art import Pose, clutter, drawing, placed, rasterize

Size = tuple[int, int]  # height, width
Plane = Float32[np.ndarray, "height width"]
Picture = Float32[np.ndarray, "3 height width"]  # RGB in 0..1; planes one after another: numpy is faster so
Color = Float32[np.ndarray, "3 1 1"]  # RGB in 0..1

MOST_DRAWINGS: Final = 2  # pieces of emoji clutter in a scene of 300 x 400
MOST_FIGURES: Final = 6  # geometric figures likewise
CLUTTER_SIZE: Final = (18.0, 56.0)  # sqrt(area) of a piece of clutter, pixels


def background(rng: np.random.Generator, size: Size) -> Picture:
    """A place: one of seven kinds of layout in random colors, with grain of random strength."""
    kind = KINDS[rng.integers(len(KINDS))]
    picture = kind(rng, size)
    strength = rng.uniform(0.0, 0.07)
    for octave, cells in enumerate((6, 18, 60)):
        picture += noise(rng, size, cells) * (strength / (2 + octave))
    return np.clip(picture, 0, 1, out=picture)


def color(rng: np.random.Generator, low: float = 0.3, high: float = 0.95) -> Color:
    """A random RGB color, mostly of low saturation, its brightness in [low, high]."""
    hue, saturation, value = rng.uniform(), 0.7 * rng.uniform() ** 2, rng.uniform(low, high)
    return _color(*colorsys.hsv_to_rgb(hue, saturation, value))


def _color(red: float, green: float, blue: float) -> Color:
    return np.array([red, green, blue], np.float32).reshape(3, 1, 1)


def noise(rng: np.random.Generator, size: Size, cells: int) -> Plane:
    """Smooth noise of unit variance at its knots, about `cells` knots across the picture."""
    height, width = size
    knots = rng.standard_normal((max(2, cells * height // width), max(2, cells)), dtype=np.float32)
    return np.asarray(Image.fromarray(knots).resize((width, height), Image.Resampling.BICUBIC))


def ramp(rng: np.random.Generator, size: Size) -> Plane:
    """A linear ramp from 0 to 1 in a random direction."""
    turn = rng.uniform(0, 2 * math.pi)
    rows = np.linspace(-0.5, 0.5, size[0], dtype=np.float32)[:, None]
    columns = np.linspace(-0.5, 0.5, size[1], dtype=np.float32)[None]
    return (rows * math.sin(turn) + columns * math.cos(turn)) / 1.42 + 0.5


def heights(size: Size) -> Plane:
    """How far down each pixel is: 0 in the first row, 1 in the last."""
    return np.broadcast_to(np.linspace(0, 1, size[0], dtype=np.float32)[:, None], size)


def mix(weight: Plane, first: Picture | Color, second: Picture | Color) -> Picture:
    """`first` where `weight` is 0, `second` where it is 1, in between a blend."""
    share = np.minimum(np.maximum(weight, 0), 1)
    mixed = share * (second - first)
    mixed += first
    return mixed


def gradient(rng: np.random.Generator, size: Size) -> Picture:
    """Two colors, one fading into the other, with a third coming through."""
    plain = mix(ramp(rng, size), color(rng), color(rng))
    return mix(0.35 * (1 + noise(rng, size, 4)) * rng.uniform(0, 1), plain, color(rng))


def clouds(rng: np.random.Generator, size: Size) -> Picture:
    """Patches of three colors with soft or hard edges."""
    hardness = rng.uniform(0.5, 6)
    first = mix(0.5 + hardness * noise(rng, size, int(rng.integers(3, 8))), color(rng), color(rng))
    return mix(0.5 + hardness * (noise(rng, size, int(rng.integers(3, 10))) - 0.7), first, color(rng))


def stripes(rng: np.random.Generator, size: Size) -> Picture:
    """Wavy stripes, from curtains to boards."""
    waves = rng.uniform(4, 16) * 2 * math.pi * ramp(rng, size) + rng.uniform(0, 1.2) * noise(rng, size, 4)
    near = color(rng)
    far = np.clip(near + _color(*rng.uniform(-0.25, 0.25, 3)), 0, 1)
    return mix(0.5 + rng.uniform(0.5, 4) * np.sin(waves), near, far)


def tiles(rng: np.random.Generator, size: Size) -> Picture:
    """Bricks or tiles with joints, each tile a little different."""
    high, wide = int(rng.integers(18, 60)), int(rng.integers(24, 90))
    rows, columns = np.arange(size[0])[:, None] + 0 * np.arange(size[1]), np.arange(size[1])[None]
    columns = columns + (rows // high % 2) * (wide // 2) * int(rng.integers(2))
    shade = rng.normal(0, 0.035, (size[0] // high + 1, (size[1] + wide) // wide + 1)).astype(np.float32)
    joint = ((rows % high < 2) | (columns % wide < 2)).astype(np.float32)
    flat = color(rng) + shade[rows // high, columns // wide]
    return mix(joint * rng.uniform(0.3, 0.9), flat, color(rng))


def horizon(rng: np.random.Generator, size: Size) -> Picture:
    """Sky over ground, with hills where they meet."""
    sky = color(rng, 0.6, 1.0) * _color(0.8, 0.95, 1.1)
    above = mix(heights(size) + 0.15 * noise(rng, size, 5), sky, color(rng, 0.7))
    below = mix(0.5 + rng.uniform(0.1, 0.8) * noise(rng, size, 14), color(rng, 0.2, 0.7), color(rng, 0.2, 0.7))
    line = rng.uniform(0.3, 0.75) + rng.uniform(0, 0.12) * noise(rng, size, 7)[:1]
    depth = (heights(size) - line) * size[0]
    return mix(depth + 0.5, above, below)


def street(rng: np.random.Generator, size: Size) -> Picture:
    """A wall of windows over a pavement and a road."""
    wall = tiles(rng, size)
    rows = heights(size)
    kerb = rng.uniform(0.45, 0.75)
    paved = mix((rows - kerb) * size[0], wall, _color(1.0, 1.0, 1.0) * rng.uniform(0.5, 0.75))
    road = _color(1.0, 1.0, 1.05) * rng.uniform(0.25, 0.45)
    return mix((rows - kerb - rng.uniform(0.05, 0.15)) * size[0], paved, road)


def room(rng: np.random.Generator, size: Size) -> Picture:
    """A wall and a floor with a skirting board between them."""
    wall = (gradient, stripes, tiles)[rng.integers(3)](rng, size)
    floor = (clouds, stripes, gradient)[rng.integers(3)](rng, size) * rng.uniform(0.5, 0.9)
    rows = heights(size)
    edge = rng.uniform(0.5, 0.85)
    board = mix((rows - edge + 0.03) * size[0], wall, color(rng, 0.5))
    return mix((rows - edge) * size[0], board, floor)


KINDS: Final[tuple[Callable[[np.random.Generator, Size], Picture], ...]] = (
    gradient,
    clouds,
    stripes,
    tiles,
    horizon,
    street,
    room,
)


def add_clutter(rng: np.random.Generator, picture: Picture) -> Picture:
    """Lays geometric figures and drawings of things over a background."""
    height, width = picture.shape[1:]
    crowd = height * width / 120_000
    figures = [_figure(rng, (height, width)) for _ in range(rng.integers(round(MOST_FIGURES * crowd) + 1))]
    things = [_thing(rng, (height, width)) for _ in range(rng.integers(round(MOST_DRAWINGS * crowd) + 1))]
    if not figures and not things:
        return picture
    layer = rasterize("".join(figures + things), width, height).transpose(2, 0, 1) / np.float32(255)
    return mix(layer[3], picture, layer[:3])


def _figure(rng: np.random.Generator, size: Size) -> str:
    """One SVG figure: an ellipse, a polygon, a box or a bar, filled or only an outline."""
    x, y = rng.uniform(0, size[1]), rng.uniform(0, size[0])
    wide, high = np.exp(rng.uniform(math.log(8), math.log(90), 2))
    red, green, blue = (255 * color(rng)).astype(int).ravel()
    ink, opacity = f"rgb({red},{green},{blue})", rng.uniform(0.5, 1)
    style = f'fill="{ink}" fill-opacity="{opacity:.2f}"'
    if rng.uniform() < 0.4:
        style = f'fill="none" stroke="{ink}" stroke-opacity="{opacity:.2f}" stroke-width="{rng.uniform(2, 9):.1f}"'
    place = f'transform="translate({x:.1f} {y:.1f}) rotate({rng.uniform(0, 180):.0f})" {style}'
    kind = rng.integers(4)
    if kind == 0:
        return f'<ellipse rx="{wide / 2:.1f}" ry="{high / 2:.1f}" {place}/>'
    if kind == 1:
        turns = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 7))))
        points = " ".join(f"{wide / 2 * math.cos(t):.1f},{high / 2 * math.sin(t):.1f}" for t in turns)
        return f'<polygon points="{points}" {place}/>'
    high = high if kind == 2 else 2 + high / 10  # a box, or a bar
    return f'<rect x="{-wide / 2:.1f}" y="{-high / 2:.1f}" width="{wide:.1f}" height="{high:.1f}" {place}/>'


def _thing(rng: np.random.Generator, size: Size) -> str:
    """One drawing of a thing of no class, anywhere, perhaps cut by the border."""
    shape = clutter()[rng.integers(len(clutter()))]
    pose = Pose(rng.uniform(*CLUTTER_SIZE), rng.uniform(-25, 25), rng.uniform(0.85, 1.2), bool(rng.integers(2)))
    group, wide, high = placed(drawing(shape.code_points[0]), pose)
    x, y = rng.uniform(-wide / 3, size[1] - wide / 1.5), rng.uniform(-high / 3, size[0] - high / 1.5)
    return f'<g transform="translate({x:.1f} {y:.1f})">{group}</g>'

"""Masks as polygons, as labeling tools take them: outlines along the edges of pixels, with as few corners as will do.

A polygon has no holes. Each hole is joined to its outline by a cut of no width: the outline runs to the hole, around
it, and back the same way, so that whoever fills the polygon leaves the hole out.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, TypeAlias

import numpy as np
from faster_coco_eval.core import mask as mask_api
from jaxtyping import Bool

Point: TypeAlias = tuple[int, int]  # x y, corners of pixels
Ring: TypeAlias = list[Point]  # closed: its last point is followed by its first
TOLERANCES: Final = (4.0, 2.0, 1.0, 0.8, 0.6)  # pixels by which an outline with fewer corners may differ
LEAST_OVERLAP: Final = 0.985  # IoU with the mask that it must have; where none has, it keeps all corners


def mask_polygons(mask: Bool[np.ndarray, "h w"]) -> list[list[float]]:
    """The parts of a mask, each as x1 y1 x2 y2 ... of one polygon in pixels, its holes joined to it.

    With fewer corners than the pixels' edges have where that is hardly another mask; else to the pixel. Parts touch
    nowhere but at corners. An empty mask has none.
    """
    top, left, inside = _cropped(mask)
    if not inside.size:
        return []
    parts = _parts(inside)
    for tolerance in (*TOLERANCES, 0.0):
        rings = [_simplified(ring, fixed, tolerance) for ring, fixed in parts]
        if tolerance == 0 or _overlap(rings, inside) >= LEAST_OVERLAP:
            break
    return [[float(value) for x, y in ring for value in (x + left, y + top)] for ring in rings]


def _cropped(mask: Bool[np.ndarray, "h w"]) -> tuple[int, int, Bool[np.ndarray, "rows columns"]]:
    """Top, left and content of the mask's extent."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, mask[:0, :0]
    return int(rows[0]), int(columns[0]), mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _parts(mask: Bool[np.ndarray, "h w"]) -> list[tuple[Ring, set[Point]]]:
    """One ring for each part, along unit edges, and the corners where its holes are joined to it."""
    rings = _rings(mask)
    outer = [ring for ring in rings if _area(ring) > 0]
    fixed: list[set[Point]] = [set() for _ in outer]
    # From left to right: what lies left of a hole's leftmost edge is then the outline, or a hole that is joined to it.
    for hole in sorted((ring for ring in rings if _area(ring) < 0), key=min):
        start = min(hole)
        x, y = start[0] - 1, start[1]
        while x > 0 and mask[y, x - 1]:
            x -= 1
        end = (x, y)
        # Where several rings pass the corner, the one that has the edge on that row is the part's own.
        number = next(n for n, ring in enumerate(outer) if _has_edge(ring, end))
        ring, place, turn = outer[number], outer[number].index(end), hole.index(start)
        outer[number] = [*ring[: place + 1], *hole[turn:], *hole[:turn], start, *ring[place:]]
        fixed[number] |= {start, end}
    return list(zip(outer, fixed, strict=True))


def _has_edge(ring: Ring, corner: Point) -> bool:
    """Whether the ring runs along the left edge of the pixel at a corner, which lies below it."""
    below = (corner[0], corner[1] + 1)
    return any({one, other} == {corner, below} for one, other in zip(ring, [*ring[1:], ring[0]], strict=True))


def _rings(mask: Bool[np.ndarray, "h w"]) -> list[Ring]:
    """Closed ways along the pixels' edges with the mask on the right; where two touch, each turns right."""
    ways = _edges(mask)
    rings = []
    while ways:
        start = next(iter(ways))
        ring, before, point = [start], None, start
        while True:
            after = _turn(ways[point], before, point)
            ways[point].remove(after)
            if not ways[point]:
                del ways[point]
            before, point = point, after
            if point == start:
                break
            ring.append(point)
        rings.append(ring)
    return rings


def _turn(choices: list[Point], before: Point | None, point: Point) -> Point:
    """The next corner: of two ways the right turn, which stays at the same pixel."""
    if len(choices) == 1 or before is None:
        return choices[0]
    step = (point[0] - before[0], point[1] - before[1])
    right = (point[0] - step[1], point[1] + step[0])
    return right if right in choices else choices[0]


def _edges(mask: Bool[np.ndarray, "h w"]) -> dict[Point, list[Point]]:
    """Unit edges around the mask, from corner to corner, with the mask on the right (y points down)."""
    ways: dict[Point, list[Point]] = defaultdict(list)
    down = np.diff(np.pad(mask.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    across = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    for (y, x), step in zip(np.argwhere(down).tolist(), down[down != 0].tolist(), strict=True):
        first, last = ((x, y), (x + 1, y)) if step > 0 else ((x + 1, y), (x, y))
        ways[first].append(last)
    for (y, x), step in zip(np.argwhere(across).tolist(), across[across != 0].tolist(), strict=True):
        first, last = ((x, y + 1), (x, y)) if step > 0 else ((x, y), (x, y + 1))
        ways[first].append(last)
    return ways


def _area(ring: Ring) -> int:
    """Twice the signed area: above 0 with the inside on the right."""
    return sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in zip(ring, [*ring[1:], ring[0]], strict=True))


def _simplified(ring: Ring, fixed: set[Point], tolerance: float) -> Ring:
    """Douglas and Peucker's algorithm between the fixed points, and two far apart where there are none."""
    places = [place for place, point in enumerate(ring) if point in fixed]
    if len(places) < 2:
        first = places[0] if places else ring.index(min(ring))
        x, y = ring[first]
        far = max(range(len(ring)), key=lambda place: (ring[place][0] - x) ** 2 + (ring[place][1] - y) ** 2)
        places = sorted({first, far})
    kept = []
    for start, end in zip(places, [*places[1:], places[0] + len(ring)], strict=True):
        piece = [ring[place % len(ring)] for place in range(start, end + 1)]
        kept += [piece[place] for place in _corners(np.array(piece, np.float64), tolerance)[:-1]]
    return kept


def _corners(points: np.ndarray, tolerance: float) -> list[int]:
    """Which points [n, 2] of an open way are kept, first and last among them."""
    kept, spans = {0, len(points) - 1}, [(0, len(points) - 1)]
    while spans:
        start, end = spans.pop()
        if end - start < 2:
            continue
        distances = _distances(points[start : end + 1])
        far = int(distances.argmax())
        if distances[far] > tolerance:
            kept.add(start + far)
            spans += [(start, start + far), (start + far, end)]
    return sorted(kept)


def _distances(points: np.ndarray) -> np.ndarray:
    """Of each point [n, 2] from the segment between the first and the last."""
    start, along = points[0], points[-1] - points[0]
    length = float(along @ along)
    share = np.clip((points - start) @ along / length, 0, 1) if length else np.zeros(len(points))
    return np.hypot(*(points - start - share[:, None] * along).T)


def _overlap(rings: list[Ring], mask: Bool[np.ndarray, "h w"]) -> float:
    """IoU of the filled polygons, as COCO fills them, with the mask."""
    shapes = [[float(value) for point in ring for value in point] for ring in rings]
    if any(len(shape) < 6 for shape in shapes):
        return 0.0
    filled = mask_api.decode(mask_api.merge(mask_api.frPyObjects(shapes, *mask.shape))).astype(bool)
    return float((filled & mask).sum() / (filled | mask).sum())

"""Large pictures in overlapping tiles, and what was found in them as one (an option of task 18).

The whole picture, reduced to the canvas, shows large objects whole and small ones not at all; a tile shows small ones
large and large ones in part. So both are looked at. A box that ends at a tile's inner border is the part of an object
that a neighbor or the whole picture may have whole: where one does, the part goes. What is left, all found once or
several times, is suppressed as within one picture.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool
from torch import Tensor
from torchvision.ops import batched_nms

from src.core.params import EvaluateParams
from src.ops.boxes import intersection_over_area
from src.structures.detections import Detections

BORDER: Final = 0.01  # of a tile's side: a box that ends nearer to the border is taken for cut there
COVERED: Final = 0.5  # share of a cut box in another one of its class, from which it is a part of the same object


@dataclass(frozen=True)
class Tile:
    """A part of a picture, pixels."""

    top: int
    left: int
    height: int
    width: int


def make_tiles(height: int, width: int, side: int, overlap: float) -> list[Tile]:
    """Tiles of at most `side` pixels that cover a picture, each with at least a share `overlap` of its neighbor.

    None where the picture is no larger than one tile.
    """
    if max(height, width) <= side:
        return []
    rows, columns = _starts(height, side, overlap), _starts(width, side, overlap)
    return [Tile(top, left, min(side, height), min(side, width)) for top in rows for left in columns]


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Evenly spaced, the first at 0 and the last at the end."""
    if length <= side:
        return [0]
    step = max(1, math.floor(side * (1 - overlap)))
    count = math.ceil((length - side) / step) + 1
    return [round(number * (length - side) / (count - 1)) for number in range(count)]


def moved(found: Detections, tile: Tile) -> Detections:
    """Detections in a tile's pixels in those of the picture."""
    offset = found.boxes.new_tensor([tile.left, tile.top] * 2)
    return dataclasses.replace(found, boxes=found.boxes + offset, proposals=found.proposals + offset)


def is_cut(found: Detections, tile: Tile, height: int, width: int) -> Bool[Tensor, " d"]:
    """Which boxes, in the picture's pixels, end at a border of the tile that is none of the picture.

    Args:
        found: in the tile.
        tile: where it lies.
        height: of the picture.
        width: of the picture.
    """
    near_x, near_y = BORDER * tile.width, BORDER * tile.height
    x1, y1, x2, y2 = found.boxes.unbind(1)
    right, bottom = tile.left + tile.width, tile.top + tile.height
    cut = torch.zeros(len(found), dtype=torch.bool)
    if tile.left > 0:
        cut |= x1 <= tile.left + near_x
    if tile.top > 0:
        cut |= y1 <= tile.top + near_y
    if right < width:
        cut |= x2 >= right - near_x
    if bottom < height:
        cut |= y2 >= bottom - near_y
    return cut


def merge(parts: Sequence[Detections], cut: Sequence[Bool[Tensor, " _"]], params: EvaluateParams) -> Detections:
    """What several looks at one picture found, each object once, best first.

    Args:
        parts: in the picture's pixels.
        cut: which of each part's boxes end at an inner border.
        params: how boxes suppress each other, as within one picture.
    """
    whole = Detections(
        **{
            field.name: torch.cat([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(Detections)
        }
    )
    found = whole.keep(~_is_part(whole, torch.cat(list(cut)), params.class_agnostic_nms))
    groups = torch.zeros_like(found.labels) if params.class_agnostic_nms else found.labels
    return found.keep(batched_nms(found.boxes, found.scores, groups, params.nms_iou))


def _is_part(found: Detections, cut: Bool[Tensor, " d"], agnostic: bool) -> Bool[Tensor, " d"]:
    """Which of the cut boxes lie in one that is not."""
    inside = intersection_over_area(found.boxes, found.boxes[~cut]) >= COVERED
    same = found.labels[:, None] == found.labels[None, ~cut]
    return cut & (inside & (same | agnostic)).any(dim=1)

"""The RPN and RoIAlign on an FPN that is evaluated only where they look.

A training step looks at a few hundred anchors and RoIs. The rows of the pyramid under them are collected, each once,
`FeaturePyramid.rows_at` computes those, and the RPN head and RoIAlign read them: the same numbers and gradients as
from dense maps (a test compares them), without the output convolutions everywhere else. `SparsePyramid` is the face:
anchors and RoIs go in, the RPN's outputs and pooled features come out. Row numbers stay inside this module.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from src.detector.fpn import STRIDES, FeaturePyramid, neighbors_of
from src.detector.rpn import RpnHead
from src.ops.roi_align import Stencil, gather_stencil, multiscale_stencil


class SparsePyramid:
    """P2..P5 and the pooled level of a batch, computed where anchors and RoIs look and nowhere else.

    Args:
        fpn: the pyramid's convolutions.
        top_down_maps: `fpn.top_down`'s maps of the batch.
    """

    def __init__(self, fpn: FeaturePyramid, top_down_maps: Sequence[Tensor]) -> None:
        self._fpn, self._top_down_maps, self._grids = fpn, top_down_maps, _Grids.from_maps(top_down_maps)

    @property
    def grids(self) -> list[tuple[int, int]]:
        """(H, W) of P2..P5 and the pooled level."""
        return self._grids.with_pooled()

    def evaluate(
        self,
        head: RpnHead,
        anchors: Sequence[Int64[Tensor, " _"]],
        rois: Sequence[tuple[Float[Tensor, "_ 5"], int]],
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 4"], list[Tensor]]:
        """The RPN's outputs at anchors, and features pooled at RoIs.

        Args:
            head: the RPN's.
            anchors: of each image, anchor numbers level by level, location by location.
            rois: boxes as (image index, x1, y1, x2, y2), and the side P of the grid to pool each of them to; as many
                such pairs as there are heads.

        Returns:
            Objectness logits and deltas of all images' anchors, one image after another; and for each entry of `rois`
            [r, C, P, P].
        """
        ratios = head.cls_logits.out_channels
        near = _join([anchor_neighborhoods(self._grids, image, one, ratios) for image, one in enumerate(anchors)])
        stencils = [
            multiscale_stencil(boxes, self._grids.sizes, STRIDES, self._grids.batch, side) for boxes, side in rois
        ]
        features, cells = _look(self._fpn, self._top_down_maps, near, stencils)
        logits, deltas = head.at(features)
        places = torch.arange(len(near.places), device=near.places.device)
        pooled = [_to_grids(part, side) for part, (_, side) in zip(cells, rois, strict=True)]
        return logits[places, near.places], deltas[places, near.places], pooled


@dataclass(frozen=True)
class _Grids:
    """Shapes of P2..P5 in a batch: `sizes` (H, W) of each level, `batch` images."""

    sizes: tuple[tuple[int, int], ...]
    batch: int

    @classmethod
    def from_maps(cls, maps: Sequence[Tensor]) -> _Grids:
        """The grids of P2..P5."""
        return cls(tuple((level.shape[2], level.shape[3]) for level in maps), maps[0].shape[0])

    def with_pooled(self) -> list[tuple[int, int]]:
        """(H, W) of P2..P5 and of the pooled level: every second cell of P5."""
        height, width = self.sizes[-1]
        return [*self.sizes, ((height + 1) // 2, (width + 1) // 2)]

    def start(self, level: int) -> int:
        """The first pyramid row of a level."""
        return sum(self.batch * height * width for height, width in self.sizes[:level])


@dataclass(frozen=True)
class Neighborhoods:
    """3 x 3 neighborhoods of RPN locations.

    Attributes:
        rows: of the pyramid.
        inside: whether they lie on the level's grid.
        places: each anchor's number at its location.
    """

    rows: Int64[Tensor, "n 9"]
    inside: Bool[Tensor, "n 9"]
    places: Int64[Tensor, " n"]


def anchor_neighborhoods(grids: _Grids, image: int, anchors: Int64[Tensor, " n"], per_location: int) -> Neighborhoods:
    """Where the RPN head looks for anchors numbered level by level, location by location.

    Args:
        grids: of the batch.
        image: index of the image in the batch.
        anchors: anchor numbers, in any order.
        per_location: anchors per location.
    """
    firsts, table = _levels(grids, anchors.device)
    cells = anchors // per_location
    level = torch.bucketize(cells, firsts, right=True) - 1
    first, height, width, row, rows_of_image, step, rows_below = table[level].unbind(1)
    cells, inside = neighbors_of(cells - first, height, width)
    y, x = cells // width[:, None], cells % width[:, None]
    starts = row + image * rows_of_image
    return Neighborhoods(starts[:, None] + y * rows_below[:, None] + x * step[:, None], inside, anchors % per_location)


@functools.lru_cache(maxsize=8)
def _levels(grids: _Grids, device: torch.device) -> tuple[Int64[Tensor, " l"], Int64[Tensor, "l 7"]]:
    """What the RPN's levels are, P2..P5 and the pooled one; kept on the device.

    Returns:
        The first location of each level. And for each: that; height and width of its grid; its first row in the
        pyramid and rows of an image there; rows from a location to the next on its right, and to the next below. The
        pooled level's location (y, x) is P5's (2y, 2x).
    """
    levels, first = [], 0
    for number, (height, width) in enumerate(grids.with_pooled()):
        pooled = number == len(grids.sizes)
        level = number - pooled
        (rows, columns), step = grids.sizes[level], 1 + pooled
        levels.append([first, height, width, grids.start(level), rows * columns, step, step * columns])
        first += height * width
    table = torch.tensor(levels, device=device)
    return table[:, 0].contiguous(), table


def _look(
    fpn: FeaturePyramid, top_down_maps: Sequence[Tensor], near: Neighborhoods, stencils: Sequence[Stencil]
) -> tuple[Float[Tensor, "n nine_c"], list[Tensor]]:
    """Evaluates the pyramid under RPN locations and RoIAlign stencils, each row once.

    Returns:
        The neighborhoods' features [n, 9*C] (0 off the grid), and each stencil's cells [cells, C].
    """
    used = [stencil.indices[stencil.weights != 0] for stencil in stencils]
    rows = torch.unique(torch.cat([near.rows[near.inside], *used]))  # ascending
    rows = rows if len(rows) else rows.new_zeros(1)  # no anchors, all RoIs off the maps: something to weigh by 0
    table = fpn.rows_at(top_down_maps, rows)
    places = torch.searchsorted(rows, near.rows).clamp(max=len(rows) - 1)
    features = F.embedding(places, table) * near.inside[..., None].to(table.dtype)
    compact = [torch.searchsorted(rows, stencil.indices).clamp(max=len(rows) - 1) for stencil in stencils]
    cells = [gather_stencil(table, Stencil(index, one.weights)) for index, one in zip(compact, stencils, strict=True)]
    return features.flatten(1), cells


def _to_grids(cells: Float[Tensor, "cells c"], side: int) -> Float[Tensor, "r c p p"]:
    """RoIs' cells as grids."""
    return cells.unflatten(0, (len(cells) // side**2, side**2)).transpose(1, 2).unflatten(2, (side, side))


def _join(parts: Sequence[Neighborhoods]) -> Neighborhoods:
    """The neighborhoods of all images."""
    return Neighborhoods(
        torch.cat([image.rows for image in parts]),
        torch.cat([image.inside for image in parts]),
        torch.cat([image.places for image in parts]),
    )

"""The RPN and RoIAlign on an FPN that is evaluated only where they look.

A training step looks at a few hundred anchors and RoIs. The rows of the pyramid under them are collected, each once,
`FeaturePyramid.rows_at` computes those, and the RPN head and RoIAlign read them: the same numbers and gradients as
from dense maps (a test compares them), without the output convolutions everywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from src.detector.backbones import STRIDES
from src.detector.fpn import FeaturePyramid, neighbors_of
from src.detector.rpn import RpnHead
from src.ops.roi_align import Stencil, gather_stencil, multiscale_stencil


@dataclass(frozen=True)
class Grids:
    """Shapes of P2..P5 in a batch: `sizes` (H, W) of each level, `batch` images."""

    sizes: tuple[tuple[int, int], ...]
    batch: int

    @classmethod
    def of(cls, maps: Sequence[Tensor]) -> Grids:
        """The grids of P2..P5."""
        return cls(tuple((level.shape[2], level.shape[3]) for level in maps), maps[0].shape[0])

    @property
    def pooled(self) -> tuple[int, int]:
        """The grid of the pooled level: every second cell of P5."""
        height, width = self.sizes[-1]
        return (height + 1) // 2, (width + 1) // 2

    def with_pooled(self) -> list[tuple[int, int]]:
        """(H, W) of P2..P5 and pool."""
        return [*self.sizes, self.pooled]

    def start(self, level: int) -> int:
        """The first pyramid row of a level."""
        return sum(self.batch * height * width for height, width in self.sizes[:level])


@dataclass(frozen=True)
class Neighborhoods:
    """3 x 3 neighborhoods of RPN locations: pyramid rows, and whether they lie on the level's grid."""

    rows: Int64[Tensor, "n 9"]
    inside: Bool[Tensor, "n 9"]
    places: Int64[Tensor, " n"]


def anchor_neighborhoods(grids: Grids, image: int, anchors: Int64[Tensor, " n"], per_location: int) -> Neighborhoods:
    """Where the RPN head looks for anchors numbered level by level, location by location.

    Args:
        grids: of the batch.
        image: index of the image in the batch.
        anchors: anchor numbers, in any order.
        per_location: anchors a location.

    Returns:
        Taps in the anchors' order; `places` is each anchor's number at its location.
    """
    rows = anchors.new_zeros(len(anchors), 9)
    inside = torch.zeros_like(rows, dtype=torch.bool)
    first = 0
    for level, (height, width) in enumerate(grids.with_pooled()):
        last = first + height * width * per_location
        here = (anchors >= first) & (anchors < last)
        cells, is_inside = neighbors_of((anchors[here] - first) // per_location, height, width)
        base = grids.start(min(level, len(grids.sizes) - 1))
        level_height, level_width = grids.sizes[min(level, len(grids.sizes) - 1)]
        if level == len(grids.sizes):  # the pooled level's cell (y, x) is P5's (2y, 2x)
            cells = 2 * (cells // width) * level_width + 2 * (cells % width)
        rows[here] = base + image * level_height * level_width + cells
        inside[here] = is_inside > 0
        first = last
    return Neighborhoods(rows, inside, anchors % per_location)


def look(
    pyramid: FeaturePyramid, merged: Sequence[Tensor], taps: Neighborhoods, stencil: Stencil
) -> tuple[Float[Tensor, "n nine_c"], Float[Tensor, "cells c"]]:
    """Evaluates the pyramid under RPN taps and a RoIAlign stencil, each row once.

    Returns:
        The taps' features [n, 9*C] (0 off the grid) and the stencil's cells [cells, C].
    """
    used = stencil.indices[stencil.weights != 0]
    rows = torch.unique(torch.cat([taps.rows[taps.inside], used]))  # ascending
    rows = rows if len(rows) else rows.new_zeros(1)  # no anchors, all RoIs off the maps: something to weigh by 0
    table = pyramid.rows_at(merged, rows)
    near = torch.searchsorted(rows, taps.rows).clamp(max=len(rows) - 1)
    features = torch.nn.functional.embedding(near, table) * taps.inside[..., None].to(table.dtype)
    compact = torch.searchsorted(rows, stencil.indices).clamp(max=len(rows) - 1)
    return features.flatten(1), gather_stencil(table, Stencil(compact, stencil.weights))


def at_anchors(
    head: RpnHead, features: Tensor, taps: Neighborhoods
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 4"]]:
    """Logit and deltas of each anchor from its taps' features."""
    logits, deltas = head.at(features)
    rows = torch.arange(len(taps.places), device=taps.places.device)
    return logits[rows, taps.places], deltas[rows, taps.places]


def roi_cells(grids: Grids, boxes: Float[Tensor, "r 5"], size: int) -> Stencil:
    """RoIAlign's stencil over P2..P5."""
    return multiscale_stencil(boxes, grids.sizes, STRIDES, grids.batch, size)

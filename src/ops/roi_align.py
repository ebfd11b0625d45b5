"""RoIAlign as a weighted sum of feature rows (task 12; Mask R-CNN, section 3 "RoIAlign"; FPN, section 4.2).

`src.ops.stencil` says which pixels each output cell sums. Summing them is a weighted embedding bag over rows of
channels: it reads whole vectors instead of channel by channel, and uses every core. Its gradient is the same sum with
the roles of pixels and cells exchanged: the pairs, sorted by pixel, are bags of cells.

Letters in shapes: b images; c channels; h, w feature map; r RoIs; p, q output cells; k pixels per cell; n rows.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from src.ops.boxes import Number
from src.ops.stencil import (
    Pair,
    Size,
    Stencil,
    assign_levels,
    image_numbers,
    multiscale_stencil,
    pair,
    roi_extents,
    roi_stencil,
)

__all__ = [
    "Stencil",
    "assign_levels",
    "feature_rows",
    "gather_stencil",
    "multiscale_roi_align",
    "multiscale_stencil",
    "roi_align",
    "roi_stencil",
]

# With adaptive sampling a large box has thousands of pixels per cell: about so many pairs are held at once.
LARGEST_STENCIL = 2**22


def roi_align(
    features: Float[Tensor, "b c h w"],
    boxes: Float[Tensor, "r 5"],
    output_size: Size,
    spatial_scale: Number = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> Float[Tensor, "r c p q"]:
    """Features of each box, pooled to a fixed grid: the signature and meaning of `torchvision.ops.roi_align`.

    Args:
        features: float32, float64 or bfloat16 (summed in float32). Read without a copy where channels_last.
        boxes: image number, x1 y1 x2 y2 in image pixels. No gradient flows into them.
        output_size: P, or (rows, columns).
        spatial_scale: feature pixels per image pixel.
        sampling_ratio: points per cell along an axis; the assignment's 4 points are 2. 0 or less: as many as the cell
            has pixels, rounded up, which is torchvision's default, and slow.
        aligned: half-pixel correct boxes.

    Returns:
        One grid per RoI, in the features' dtype and channels_last in memory.

    Raises:
        ValueError: for an image number outside the batch.
    """
    batch, channels, *size = features.shape
    cells = pair(output_size)
    if sampling_ratio > 0:
        stencil = roi_stencil(boxes, (size[0], size[1]), batch, cells, spatial_scale, sampling_ratio, aligned)
        pooled = gather_stencil(feature_rows(features), stencil)
    else:
        pooled = _pool_adaptively(features, boxes, cells, spatial_scale, aligned)
    return pooled.reshape(len(boxes), *cells, channels).permute(0, 3, 1, 2)


def _pool_adaptively(features: Tensor, boxes: Tensor, cells: Pair, scale: Number, aligned: bool) -> Tensor:
    """[r, cells, c], each RoI with as many points per cell as it has pixels; 0 for RoIs without extent."""
    image_numbers(boxes, features.shape[0])  # of those without extent too, which no stencil looks at
    rows = feature_rows(features)
    size = (features.shape[2], features.shape[3])
    pooled = rows[:0].sum(dim=0).repeat(len(boxes), cells[0] * cells[1], 1)  # sums of no rows: zeros with a gradient
    extents = roi_extents(boxes, scale, aligned)[1].flip(1)  # [r, 2]: y, x
    points = torch.ceil(extents / torch.tensor(cells, device=boxes.device)).long()  # [r, 2]
    for y, x in points.unique(dim=0).tolist():
        if min(y, x) < 1:
            continue
        together = max(LARGEST_STENCIL // (4 * y * x * cells[0] * cells[1]), 1)
        for chosen in (points == points.new_tensor([y, x])).all(dim=1).nonzero().squeeze(1).split(together):
            stencil = roi_stencil(boxes[chosen], size, features.shape[0], cells, scale, (y, x), aligned)
            pooled.index_copy_(0, chosen, gather_stencil(rows, stencil).unflatten(0, (len(chosen), -1)))
    return pooled


def multiscale_roi_align(
    features: Sequence[Float[Tensor, "b c _h _w"]],
    boxes: Float[Tensor, "r 5"],
    output_size: Size,
    strides: Sequence[Number],
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> Float[Tensor, "r c p q"]:
    """RoIAlign of each box on its own FPN level; the result's rows are in the order of `boxes`.

    torchvision's `MultiScaleRoIAlign` is this with `aligned=False`.

    Args:
        features: maps of P2, P3, ... in order.
        boxes: image number, x1 y1 x2 y2 in image pixels.
        output_size: P, or (rows, columns).
        strides: image pixels a feature pixel, of each level.
        sampling_ratio: points per cell along an axis, as in `roi_align`.
        aligned: half-pixel correct boxes.

    Returns:
        One grid per RoI, in the features' dtype.

    Raises:
        ValueError: for an image number outside the batch, or another number of strides than of maps.
    """
    level = assign_levels(boxes[:, 1:], len(features))
    members = [(level == number).nonzero().squeeze(1) for number in range(len(features))]
    if sampling_ratio > 0:
        cells = pair(output_size)
        parts = _pool_by_levels(
            features, boxes, members, strides, cells=cells, sampling_ratio=sampling_ratio, aligned=aligned
        )
    else:
        parts = [
            roi_align(map_, boxes[chosen], output_size, 1.0 / stride, sampling_ratio, aligned).permute(0, 2, 3, 1)
            for map_, chosen, stride in zip(features, members, strides, strict=True)
        ]
    return _ProposalOrder.apply(members, *parts).permute(0, 3, 1, 2)


def _pool_by_levels(
    features: Sequence[Tensor],
    boxes: Tensor,
    members: Sequence[Tensor],
    strides: Sequence[Number],
    *,
    cells: Pair,
    sampling_ratio: int,
    aligned: bool,
) -> list[Tensor]:
    """[members, p, q, c] of each level, through one stencil for all: to build four is as many small steps four times.

    Args:
        features: as `multiscale_roi_align` has them.
        boxes: image number, x1 y1 x2 y2.
        members: rows of the boxes on each level.
        strides: image pixels per feature pixel, of each level.
        cells: output rows and columns.
        sampling_ratio: points per cell along an axis.
        aligned: half-pixel correct boxes.
    """
    batch, sizes = features[0].shape[0], [(map_.shape[2], map_.shape[3]) for map_ in features]
    stencil = multiscale_stencil(boxes[torch.cat(list(members))], sizes, strides, batch, cells, sampling_ratio, aligned)
    counts = [len(chosen) * cells[0] * cells[1] for chosen in members]
    places = zip(stencil.indices.split(counts), stencil.weights.split(counts), strict=True)
    parts, first = [], 0
    for map_, (indices, weights) in zip(features, places, strict=True):
        rows = feature_rows(map_)
        pooled = gather_stencil(rows, Stencil(indices - first, weights))
        parts.append(pooled.reshape(-1, *cells, map_.shape[1]))
        first += len(rows)
    return parts


class _ProposalOrder(torch.autograd.Function):
    """Grids of all levels, each put in its box's place. Joining and then sorting them would copy every grid twice."""

    @staticmethod
    def forward(ctx: Any, members: Sequence[Tensor], *parts: Tensor) -> Tensor:
        ctx.members = members
        ordered = parts[0].new_empty(sum(len(part) for part in parts), *parts[0].shape[1:])
        for rows, part in zip(members, parts, strict=True):
            ordered.index_copy_(0, rows, part)
        return ordered

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(gradient.index_select(0, rows) for rows in ctx.members)


def feature_rows(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "n c"]:
    """A feature map as one row of channels a pixel, (b * H + y) * W + x; a view where the map is channels_last."""
    return features.permute(0, 2, 3, 1).contiguous().flatten(0, 2)


def gather_stencil(rows: Float[Tensor, "n c"], stencil: Stencil) -> Float[Tensor, "cells c"]:
    """Weighted sums of rows, one per cell of the stencil, in the rows' dtype; differentiable once, in `rows`."""
    return _WeightedRows.apply(rows, stencil.indices.int(), stencil.weights)


class _WeightedRows(torch.autograd.Function):
    """Sums of weighted rows. Autograd's own gradient of an embedding bag runs on one thread, row by row."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(indices, weights)
        ctx.count = len(rows)
        starts = torch.arange(0, indices.numel(), indices.shape[1], dtype=indices.dtype, device=indices.device)
        return _sum_bags(rows, indices.flatten(), starts, weights.flatten())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        indices, weights = ctx.saved_tensors
        pixels, order = indices.flatten().sort(stable=True)  # stable: the same sums, in the same order, every time
        starts = torch.searchsorted(pixels, torch.arange(ctx.count, dtype=pixels.dtype, device=pixels.device))
        cells = (order // indices.shape[1]).int()
        return _sum_bags(gradient.contiguous(), cells, starts.int(), weights.flatten()[order]), None, None


def _sum_bags(rows: Tensor, indices: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of each bag of rows; bag i is indices[starts[i]:starts[i + 1]].

    Bags multiply in the rows' type and sum in float32. A 16-bit weight would be too coarse, so it goes in as two
    terms that make it up; the second finds its row in the cache.
    """
    if rows.dtype in {torch.bfloat16, torch.float16}:
        coarse = weights.to(rows.dtype)
        weights = torch.stack([coarse, (weights - coarse).to(rows.dtype)], dim=1).flatten()
        indices, starts = indices.repeat_interleave(2), starts * 2
    return F.embedding_bag(indices, rows, starts, mode="sum", per_sample_weights=weights.to(rows.dtype))

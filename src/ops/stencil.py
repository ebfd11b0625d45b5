"""Which pixels each RoIAlign cell sums, and with which weights (task 12; Mask R-CNN, section 3 "RoIAlign").

Every output cell averages sampling_ratio^2 regularly spaced points (4 for the assignment), and a point is a bilinear
mean of 4 pixels: a cell is a weighted sum of at most 16 pixels. These pixels and weights, the *stencil*, depend on the
boxes alone. They are products of one axis' pixels and weights with the other's, so they are found along each axis.

The meaning is that of `torchvision.ops.roi_align`: a point outside [-1, H] x [-1, W] counts 0, any other is clamped
into the feature map; `aligned` shifts boxes by half a pixel, and without it a RoI is at least 1 x 1.

Letters in shapes: r RoIs; p cells along an axis; s points per cell along an axis; k pixels per cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from src.ops.boxes import Number, box_area

Size = int | tuple[int, int]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Stencil:
    """The pixels of each output cell: rows of a [N, c] matrix, and their weights. Unused places have weight 0."""

    indices: Int64[Tensor, "cells k"]
    weights: Float[Tensor, "cells k"]


def pair(size: Size) -> Pair:
    """(rows, columns) of an output size."""
    return (size, size) if isinstance(size, int) else size


def roi_stencil(
    boxes: Float[Tensor, "r 5"],
    size: Pair,
    batch: int,
    output_size: Size,
    spatial_scale: Number,
    sampling_ratio: Size = 2,
    aligned: bool = True,
) -> Stencil:
    """Where each output cell looks, over the rows (b * H + y) * W + x of one feature map.

    Args:
        boxes: image number, x1 y1 x2 y2 in image pixels.
        size: (H, W) of the feature map.
        batch: images in the feature map.
        output_size: P, or (rows, columns).
        spatial_scale: feature pixels per image pixel, e.g. 1/4 on P2.
        sampling_ratio: points per cell along an axis, or along (y, x); at least 1.
        aligned: half-pixel correct boxes.

    Returns:
        Stencil of r * P * P cells: RoIs outermost, then rows, then columns. k = (2 * sampling_ratio)^2.

    Raises:
        ValueError: for an image number outside the batch or a sampling ratio below 1.
    """
    start, length = roi_extents(boxes, spatial_scale, aligned)
    base = image_numbers(boxes, batch) * (size[0] * size[1])
    sizes = torch.tensor(size, device=boxes.device).expand(len(boxes), 2)
    return _cross_axes((start, length), base, sizes, pair(output_size), pair(sampling_ratio))


def multiscale_stencil(
    boxes: Float[Tensor, "r 5"],
    sizes: Sequence[Pair],
    strides: Sequence[Number],
    batch: int,
    output_size: Size,
    sampling_ratio: Size = 2,
    aligned: bool = True,
) -> Stencil:
    """Where each output cell looks on its box's FPN level, over the rows of all levels one after another.

    Level l's rows start at the sum of batch * H * W of the levels before it. Levels are P2, P3, ... in order; boxes
    go to them by `assign_levels`.

    Args:
        boxes: image number, x1 y1 x2 y2 in image pixels.
        sizes: (H, W) of each level.
        strides: image pixels a feature pixel, of each level.
        batch: images in the feature maps.
        output_size: P, or (rows, columns).
        sampling_ratio: points per cell along an axis, or along (y, x); at least 1.
        aligned: half-pixel correct boxes.

    Returns:
        Stencil of r * P * P cells, in the order of `boxes`.

    Raises:
        ValueError: for an image number outside the batch, a sampling ratio below 1, or another number of strides than
            of levels.
    """
    if len(strides) != len(sizes):
        raise ValueError(f"strides: expected one for each of {len(sizes)} levels, found {len(strides)}")
    level = assign_levels(boxes[:, 1:], len(sizes))  # [r]
    shapes = torch.tensor(list(sizes), device=boxes.device)  # [levels, 2]
    area = shapes.prod(dim=1)
    scale = 1.0 / torch.tensor(list(strides), dtype=torch.float32, device=boxes.device)
    base = (area.cumsum(0) - area)[level] * batch + image_numbers(boxes, batch) * area[level]
    rois = roi_extents(boxes, scale[level][:, None], aligned)
    return _cross_axes(rois, base, shapes[level], pair(output_size), pair(sampling_ratio))


def assign_levels(boxes: Float[Tensor, "r 4"], levels: int = 4) -> Int64[Tensor, " r"]:
    """Which map of P2, P3, ... each box is pooled from: 0 for P2 (FPN, equation 1).

    P_k with k = floor(4 + log2(sqrt(area) / 224)), within the `levels` there are. Empty boxes and NaNs go to P2. The
    1e-6 is torchvision's, so that rounding leaves a box of 224 pixels on P4.
    """
    size = box_area(boxes).sqrt().clamp(min=1e-6)
    level = torch.floor(4 + torch.log2(size / 224) + 1e-6).clamp(2, 1 + levels)
    return level.nan_to_num(nan=2).long() - 2


def roi_extents(
    boxes: Float[Tensor, "r 5"], scale: Number | Float[Tensor, "r 1"], aligned: bool
) -> tuple[Float[Tensor, "r 2"], Float[Tensor, "r 2"]]:
    """Where RoIs begin (x, y) and how far they reach, in feature pixels; float32 at least."""
    corners = boxes[:, 1:].detach()
    corners = corners.to(torch.promote_types(corners.dtype, torch.float32)) * scale - (0.5 if aligned else 0.0)
    start, length = corners[:, :2], corners[:, 2:] - corners[:, :2]
    return start, length if aligned else length.clamp(min=1.0)


def image_numbers(boxes: Float[Tensor, "r 5"], batch: int) -> Int64[Tensor, " r"]:
    """The image of each box.

    Raises:
        ValueError: for an image number outside the batch.
    """
    numbers = boxes[:, 0].long()
    least, most = torch.stack(numbers.aminmax()).tolist() if len(numbers) else (0, 0)
    if not 0 <= least <= most < max(batch, 1):
        raise ValueError(f"boxes: expected image numbers in 0..{batch - 1}, found {numbers.unique().tolist()}")
    return numbers


def _cross_axes(rois: tuple[Tensor, Tensor], base: Tensor, sizes: Tensor, cells: Pair, samples: Pair) -> Stencil:
    """Products of both axes' pixels and weights.

    Args:
        rois: what `roi_extents` gives.
        base: [r] row of the first pixel of each RoI's feature map.
        sizes: [r, 2] (H, W) of each RoI's feature map.
        cells: output rows and columns.
        samples: points per cell, along y and x.
    """
    (start, length), (height, width) = rois, sizes.unbind(1)
    if min(samples) < 1:
        raise ValueError(f"sampling_ratio: expected at least 1 for a stencil, found {samples}")
    y, weight_y = _axis_pixels((start[:, 1], length[:, 1]), cells[0], samples[0], height)  # [r, p, 2s]
    x, weight_x = _axis_pixels((start[:, 0], length[:, 0]), cells[1], samples[1], width)
    rows = base[:, None, None] + y * width[:, None, None]  # row number of column 0
    indices = rows[:, :, None, :, None] + x[:, None, :, None, :]  # [r, p, p, 2s, 2s]
    weights = weight_y[:, :, None, :, None] * weight_x[:, None, :, None, :]
    k = 4 * samples[0] * samples[1]
    return Stencil(indices.reshape(-1, k), weights.reshape(-1, k))


def _axis_pixels(extent: tuple[Tensor, Tensor], cells: int, samples: int, size: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels [r, p, 2s] of each cell along one axis of length `size` [r], and their weights, at most 1 together."""
    start, length = (value[:, None, None] for value in extent)  # [r, 1, 1]
    last = (size - 1)[:, None, None].to(start.dtype)
    steps = torch.arange(max(cells, samples), dtype=start.dtype, device=start.device)
    bins = length / cells
    points = start + steps[:cells, None] * bins + (steps[:samples] + 0.5) * bins / samples  # [r, p, s]
    counts = (points >= -1) & (points <= last + 1)  # false for NaN
    points = torch.where(counts, points, 0.0).clamp(min=0)
    low = torch.minimum(points.floor(), last)
    high = torch.minimum(low + 1, last)
    upper = torch.where(low < last, points - low, 0.0)
    index = torch.cat([low, high], dim=-1).long()
    weight = torch.cat([1 - upper, upper], dim=-1) * counts.repeat(1, 1, 2) / samples
    return index, _merge_duplicates(index, weight)


def _merge_duplicates(index: Tensor, weight: Tensor) -> Tensor:
    """Gathers the weight of equal indices (last axis) on the first of them, and leaves 0 on the others."""
    same = index[..., :, None] == index[..., None, :]  # [..., k, k]
    total = (same * weight[..., None, :]).sum(dim=-1)
    return total.masked_fill(same.tril(diagonal=-1).any(dim=-1), 0.0)

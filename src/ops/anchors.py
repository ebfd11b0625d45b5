"""Anchor boxes: the few shapes of one grid cell, and their copies all over a feature map (tasks 2, 3 and 10).

Anchors are x1 y1 x2 y2 in canvas pixels. Sizes are not rounded (torchvision rounds its cell anchors to whole pixels).

Letters in shapes: a anchors per location.
"""

import functools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from src.ops.boxes import Number

PYRAMID_STRIDES = (4, 8, 16, 32, 64)  # image pixels per location of P2..P5 and the pooled level


def cell_anchors(widths_heights: Sequence[Sequence[Number]] | Float[Tensor, "a 2"]) -> Float[Tensor, "a 4"]:
    """Boxes of the given widths and heights (pixels), centered at 0.

    Raises:
        ValueError: where a width or height is not positive.
    """
    sizes = torch.as_tensor(widths_heights, dtype=torch.float32).reshape(-1, 2)
    if not (sizes > 0).all():
        raise ValueError(f"anchors: expected positive widths and heights, found {sizes.tolist()}")
    return torch.cat([-0.5 * sizes, 0.5 * sizes], dim=1)


def size_ratio_anchors(size: Number, ratios: Sequence[Number]) -> Float[Tensor, "a 4"]:
    """Boxes of area size^2, one an aspect ratio, centered at 0.

    Args:
        size: square root of the area, pixels.
        ratios: height / width.
    """
    return cell_anchors([(size / math.sqrt(ratio), size * math.sqrt(ratio)) for ratio in ratios])


def grid_anchors(
    cell: Float[Tensor, "a 4"], height: int, width: int, stride: Number | tuple[Number, Number], offset: Number = 0.0
) -> Float[Tensor, "h_w_a 4"]:
    """One copy of the cell's anchors at each location of a feature map.

    Args:
        cell: anchors centered at 0.
        height: rows of the feature map.
        width: columns of the feature map.
        stride: pixels between neighboring locations, or (vertical, horizontal) where the two differ.
        offset: where in its cell of stride x stride pixels a location stands, in strides: 0, the corner, is
            torchvision's choice; 0.5 is the center, where the receptive field of part (a)'s network is centered.

    Returns:
        height * width * a boxes: rows outermost, then columns, then the cell's anchors. A head's [A, h, w] output
        meets them as `output.permute(1, 2, 0).reshape(-1)`.
    """
    stride_y, stride_x = stride if isinstance(stride, tuple) else (stride, stride)
    ys = (torch.arange(height, dtype=cell.dtype, device=cell.device) + offset) * stride_y
    xs = (torch.arange(width, dtype=cell.dtype, device=cell.device) + offset) * stride_x
    y, x = torch.meshgrid(ys, xs, indexing="ij")  # [h, w]
    shifts = torch.stack([x, y, x, y], dim=-1)  # [h, w, 4]
    return (shifts[:, :, None, :] + cell).reshape(-1, 4)


@functools.lru_cache(maxsize=8)
def pyramid_anchors(
    sizes: tuple[float, ...],
    ratios: tuple[float, ...],
    canvas: tuple[int, int],
    grids: tuple[tuple[int, int], ...],
    scales: tuple[float, ...] = (1.0,),
    device: torch.device | None = None,
) -> list[Tensor]:
    """Anchors of each level, [H*W*A, 4] canvas pixels, sides rounded and strides whole numbers as in torchvision.

    A location's anchors are those of the first ratio in all scales, then of the second, as torchvision has them.

    Args:
        sizes: square root of the anchors' area on each level, pixels.
        ratios: height / width.
        canvas: height and width, pixels.
        grids: rows and columns of each level.
        scales: of a level's anchors, in shares of its size.
        device: where they are kept for the next call; None: the processor.
    """
    anchors = []
    for size, grid in zip(sizes, grids, strict=True):
        cell = torch.cat([size_ratio_anchors(scale * size, [ratio]) for ratio in ratios for scale in scales])
        anchors.append(grid_anchors(cell.round(), *grid, (canvas[0] // grid[0], canvas[1] // grid[1])).to(device))
    return anchors

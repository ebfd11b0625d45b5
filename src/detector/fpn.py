"""Feature Pyramid Network (Lin et al., CVPR 2017) whose output can also be computed at chosen points only.

Training a detector looks at few places: the sampled anchors and the sampled RoIs. The 3 x 3 output convolution of
P2 alone costs more than the whole body under it, so `rows_at` evaluates it just there: the same numbers and the same
gradients as the dense maps, at a fraction of the work.

Letters: B images, C channels, H x W a level's grid. A row is a feature vector [C]; rows of a level are numbered
(b * H + y) * W + x, rows of the pyramid level after level.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from src.ops.anchors import PYRAMID_STRIDES
from src.ops.convolution import FastConv2d

LEVELS = ("P2", "P3", "P4", "P5", "pool")
STRIDES = PYRAMID_STRIDES[:4]  # of the levels that RoIs are pooled from
# `convolve_at` multiplies so many rows or a multiple of it. Each step looks at another number of places, and in bf16
# oneDNN makes, and keeps, code for every shape that it meets: a fifth of a step's time, and gigabytes.
ROWS = 512


class FeaturePyramid(nn.Module):
    """1 x 1 lateral and 3 x 3 output convolutions; keys as in the course's checkpoint.

    Args:
        in_channels: channels of the body's maps, finest first.
        out_channels: channels of every level.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int = 256) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Conv2d(channels, out_channels, 1) for channels in in_channels)
        self.layer_blocks = nn.ModuleList(FastConv2d(out_channels, out_channels, 3, padding=1) for _ in in_channels)
        for convolution in [*self.inner_blocks, *self.layer_blocks]:
            nn.init.kaiming_uniform_(convolution.weight, a=1)
            nn.init.zeros_(convolution.bias)

    def top_down(self, maps: Sequence[Tensor], finest: int = 0) -> list[Tensor]:
        """Lateral convolutions and the top-down sum, finest level first: what the output convolutions read.

        The `finest` first levels are left out; no coarser one needs them.
        """
        pairs = list(zip(self.inner_blocks, maps, strict=True))[finest:]
        laterals = [block(features) for block, features in pairs]
        top_down_maps = [laterals[-1]]
        for lateral in reversed(laterals[:-1]):
            top_down_maps.insert(0, lateral + F.interpolate(top_down_maps[0], size=lateral.shape[-2:], mode="nearest"))
        return top_down_maps

    def outputs(self, top_down_maps: Sequence[Tensor], finest: int = 0) -> list[Tensor]:
        """P2..P5 and the pooled level (every second cell of P5) from `top_down`'s maps, less the `finest` first.

        Where `top_down` has left levels out, those that it has made.
        """
        blocks = list(self.layer_blocks)[-len(top_down_maps) :]
        pairs = list(zip(blocks, top_down_maps, strict=True))[finest:]
        levels = [block(features) for block, features in pairs]
        return [*levels, F.max_pool2d(levels[-1], kernel_size=1, stride=2)]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Dense levels P2..P5 and pool, [B, 256, H, W] each."""
        return self.outputs(self.top_down(maps))

    def rows_at(self, top_down_maps: Sequence[Tensor], rows: Int64[Tensor, " n"]) -> Float[Tensor, "n c"]:
        """Feature vectors of P2..P5 at chosen rows of the pyramid.

        Args:
            top_down_maps: `top_down`'s maps.
            rows: pyramid row numbers, ascending, each once.

        Returns:
            One row of channels for each number: what `outputs` holds there.
        """
        sizes = [features.shape[0] * features.shape[2] * features.shape[3] for features in top_down_maps]
        starts = list(itertools.accumulate(sizes, initial=0))
        borders = torch.searchsorted(rows, torch.tensor(starts, device=rows.device)).tolist()  # the only wait for them
        parts = [
            convolve_at(features, block, rows[first:last] - start)
            for features, block, first, last, start in zip(
                top_down_maps, self.layer_blocks, borders, borders[1:], starts, strict=False
            )
        ]
        return torch.cat(parts)


def convolve_at(
    features: Float[Tensor, "b c h w"], convolution: nn.Module, rows: Int64[Tensor, " n"]
) -> Float[Tensor, "n d"]:
    """A 3 x 3 convolution with padding 1, evaluated at the grid cells `rows` = (b * H + y) * W + x only."""
    weight, bias = convolution.weight, convolution.bias
    padded = F.pad(rows, (0, -len(rows) % ROWS))
    neighbors, inside = neighbors_of(padded, features.shape[2], features.shape[3])
    table = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])  # [B*H*W, C], a view if channels_last
    neighborhoods = F.embedding(neighbors, table) * inside[..., None].to(table.dtype)  # [n, 9, C]
    products = F.linear(neighborhoods.flatten(1), weight.permute(0, 2, 3, 1).flatten(1), bias)  # type: ignore[operator,arg-type]
    return products[: len(rows)]


def neighbors_of(
    rows: Int64[Tensor, "*n"], height: int | Int64[Tensor, "*n"], width: int | Int64[Tensor, "*n"]
) -> tuple[Int64[Tensor, "*n 9"], Bool[Tensor, "*n 9"]]:
    """The rows of each cell's 3 x 3 neighborhood, row-major, and whether they lie on the grid.

    Outside the grid the cell's own row stands in.

    Args:
        rows: of cells.
        height: of the grid, or of each cell's.
        width: likewise.
    """
    offsets = torch.arange(-1, 2, device=rows.device)
    up, left = offsets.repeat_interleave(3), offsets.repeat(3)
    own = rows[..., None]
    height, width = (side[..., None] if isinstance(side, Tensor) else side for side in (height, width))
    y, x = own // width % height + up, own % width + left  # [..., 9]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return torch.where(inside, own + up * width + left, own), inside

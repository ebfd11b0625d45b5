"""The last step before a network sees a picture: 0..255 to normalized floats (task 9).

The assignment normalizes first and pads afterwards, so the padding is 0 in normalized units, not the normalized black.
Pictures are stored as uint8, which keeps files small and lets each backbone state the normalization that it expects.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from src.core.params import PrepareParams


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of RGB values in 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_params(cls, prepare: PrepareParams) -> Normalization:
        """The assignment's own, from `params.yaml`."""
        return cls(prepare.mean, prepare.std)


def normalize(
    images: UInt8[Tensor, "b 3 h w"], normalization: Normalization, regions: Float[Tensor, "b 4"]
) -> Float32[Tensor, "b 3 h w"]:
    """Computes (x / 255 - mean) / std inside the pictures and 0 in the padding.

    Args:
        images: RGB, any memory format, which the result keeps.
        normalization: of the network that comes next.
        regions: x1 y1 x2 y2 of each picture on its canvas, whole numbers.
    """
    mean = torch.tensor(normalization.mean, device=images.device)[:, None, None]  # [3, 1, 1]
    std = torch.tensor(normalization.std, device=images.device)[:, None, None]  # [3, 1, 1]
    result = torch.addcmul(-mean / std, images.float(), 1 / (255 * std))
    for picture, (x1, y1, x2, y2) in zip(result, regions.round().long().tolist(), strict=True):
        picture[:, :y1] = 0
        picture[:, y2:] = 0
        picture[:, :, :x1] = 0
        picture[:, :, x2:] = 0
    return result

"""A minibatch and where in it the pictures lie (task 10's ImageList, with regions where that has sizes)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ImageList:
    """Images on a common canvas.

    Attributes:
        tensors: normalized pictures, zero outside them.
        regions: x1 y1 x2 y2 of each picture on the canvas, in pixels. Proposals are clipped to this box, not to the
            padded canvas.
        seeds: of what the losses draw of each picture, so that no draw depends on what else is in the minibatch, nor on
            which process learns from it; None: all draws come from torch's global generator.
    """

    tensors: Float[Tensor, "b 3 h w"]
    regions: Float[Tensor, "b 4"]
    seeds: Sequence[int] | None = None

    def generators(self) -> list[torch.Generator]:
        """What each picture's draws come from, on the CPU."""
        if self.seeds is None:
            return [torch.default_generator] * len(self.regions)
        return [torch.Generator().manual_seed(seed) for seed in self.seeds]

    @property
    def image_sizes(self) -> list[tuple[int, int]]:
        """Height and width of each picture before the padding, as the assignment's class has them."""
        return [(round(y2 - y1), round(x2 - x1)) for x1, y1, x2, y2 in self.regions.tolist()]

"""A minibatch and where in it the pictures lie (task 10's ImageList, with regions where that has sizes)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ImageList:
    """Images on a common canvas.

    Attributes:
        tensors: normalized pictures, zero outside them.
        regions: x1 y1 x2 y2 of each picture on the canvas, in pixels. Proposals are clipped to this box, not to the
            padded canvas.
    """

    tensors: Float[Tensor, "b 3 h w"]
    regions: Float[Tensor, "b 4"]

    @property
    def image_sizes(self) -> list[tuple[int, int]]:
        """Height and width of each picture before the padding, as the assignment's class has them."""
        return [(round(y2 - y1), round(x2 - x1)) for x1, y1, x2, y2 in self.regions.tolist()]

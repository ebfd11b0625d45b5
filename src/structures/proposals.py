"""What a region proposal network says of one image (tasks 7 and 10)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Proposals:
    """Boxes of one image that may hold an object, best first.

    Attributes:
        boxes: x1 y1 x2 y2 on the canvas, clipped to the picture.
        scores: objectness in 0..1.
    """

    boxes: Float[Tensor, "n 4"]
    scores: Float[Tensor, " n"]

    def top(self, count: int) -> Proposals:
        """The first `count`."""
        return Proposals(self.boxes[:count], self.scores[:count])

    def cpu(self) -> Proposals:
        """The same on the processor."""
        return Proposals(self.boxes.cpu(), self.scores.cpu())

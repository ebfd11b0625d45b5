"""What a detector says of one image (tasks 13, 15 and 16)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best first, on the canvas.

    Attributes:
        boxes: x1 y1 x2 y2 in canvas pixels.
        labels: 1 and up.
        scores: probability of the label, 0..1.
        proposals: the box that each detection was refined from: the RPN's, or an anchor where there is no RPN.
        masks: probability of the object in the cells of its box; of no cells until a mask head has run.
    """

    boxes: Float[Tensor, "d 4"]
    labels: Int64[Tensor, " d"]
    scores: Float[Tensor, " d"]
    proposals: Float[Tensor, "d 4"]
    masks: Float[Tensor, "d m m"]

    def __len__(self) -> int:
        return len(self.boxes)

    def keep(self, chosen: Bool[Tensor, " d"] | Int64[Tensor, " c"]) -> Detections:
        """The detections that `chosen` picks: a mask, which keeps their order, or indices, in theirs."""
        return Detections(**{field.name: getattr(self, field.name)[chosen] for field in dataclasses.fields(self)})

    def cpu(self) -> Detections:
        """The same on the processor."""
        return Detections(**{field.name: getattr(self, field.name).cpu() for field in dataclasses.fields(self)})

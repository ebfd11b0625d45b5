"""What a detector says of one image (tasks 15 and 16)."""

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
        proposals: the RPN's box that each detection was refined from.
        masks: probability of the object in the cells of its box; none until the mask head has run.
    """

    boxes: Float[Tensor, "d 4"]
    labels: Int64[Tensor, " d"]
    scores: Float[Tensor, " d"]
    proposals: Float[Tensor, "d 4"]
    masks: Float[Tensor, "d m m"]

    def __len__(self) -> int:
        return len(self.boxes)

    def keep(self, chosen: Bool[Tensor, " d"] | Int64[Tensor, " k"]) -> Detections:
        """The detections that `chosen` picks: in the same order, or in that of its indices."""
        return Detections(**{field.name: getattr(self, field.name)[chosen] for field in dataclasses.fields(self)})

    def cpu(self) -> Detections:
        """The same on the processor."""
        return Detections(**{field.name: getattr(self, field.name).cpu() for field in dataclasses.fields(self)})

"""The ground truth of one image on the canvas: what a detector learns from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor


@dataclass(frozen=True)
class Target:
    """Objects of one image, h x w canvas pixels.

    Attributes:
        boxes: x1 y1 x2 y2 in canvas pixels.
        labels: 1 and up, 0 being background.
        masks: one per object, or none at all where they were not read.
        crowd: regions of many objects, in which nothing is object or background.
    """

    boxes: Float32[Tensor, "n 4"]
    labels: Int64[Tensor, " n"]
    masks: Bool[Tensor, "m h w"]
    crowd: Float32[Tensor, "c 4"]

    def to(self, device: torch.device) -> Target:
        """The same on a device."""
        return Target(self.boxes.to(device), self.labels.to(device), self.masks.to(device), self.crowd.to(device))


def no_target(height: int, width: int) -> Target:
    """The ground truth of a picture of which nothing is known."""
    boxes = torch.zeros(0, 4)
    return Target(boxes, torch.zeros(0, dtype=torch.int64), torch.zeros(0, height, width, dtype=torch.bool), boxes)

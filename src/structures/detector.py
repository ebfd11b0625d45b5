"""What every detector of this project can do, whichever way it finds things, and the names of those there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

from torch import Tensor

from src.structures.detections import Detections
from src.structures.image_list import ImageList
from src.structures.target import Target

MASK_RCNN: Final = "mask_rcnn"  # two stages, with masks
ONE_STAGE: Final = "one_stage"  # one stage, boxes only
DETECTORS: Final = (MASK_RCNN, ONE_STAGE)
DETECTOR_NAMES: Final = {MASK_RCNN: "two stages", ONE_STAGE: "one stage"}  # for people


@runtime_checkable
class Detector(Protocol):
    """A module that learns and detects; its `forward` gives the terms of `losses` as Fabric wraps them."""

    def losses(self, images: ImageList, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Raw loss terms of a minibatch, by name."""
        ...

    def detect(self, images: ImageList) -> list[Detections]:
        """Detections of each image, on the canvas."""
        ...

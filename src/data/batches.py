"""From examples of the prepared file to what a detector takes: a normalized minibatch and its targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from src.data.normalize import Normalization, normalize
from src.data.prepared import Example
from src.structures.image_list import ImageList
from src.structures.target import Target


@dataclass(frozen=True)
class Batcher:
    """Makes minibatches for one network on one device.

    Attributes:
        normalization: of the network.
        device: where the minibatch goes.
    """

    normalization: Normalization
    device: torch.device

    def images(self, examples: Sequence[Example]) -> ImageList:
        """The normalized minibatch, channels last."""
        pictures = torch.stack([example.image for example in examples]).to(self.device)
        pictures = pictures.contiguous(memory_format=torch.channels_last)  # twice as fast in bf16 as planes
        regions = torch.tensor([example.letterbox.region for example in examples], device=self.device)
        seeds = [example.seed for example in examples if example.seed is not None]
        normalized = normalize(pictures, self.normalization, regions)
        return ImageList(normalized, regions, seeds if len(seeds) == len(examples) else None)

    def targets(self, examples: Sequence[Example]) -> list[Target]:
        """Ground truth on the device."""
        return [example.target.to(self.device) for example in examples]

    def __call__(self, examples: Sequence[Example]) -> tuple[ImageList, list[Target]]:
        """The arguments of a detector's `losses`."""
        return self.images(examples), self.targets(examples)

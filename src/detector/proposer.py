"""Backbone, FPN and RPN run on examples without learning, in the run's precision (tasks 8, 10 and 12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from src.data.batches import Batcher
from src.data.prepared import Example
from src.detector.mask_rcnn import BackboneWithFpn
from src.detector.rpn import RegionProposalNetwork
from src.structures.image_list import ImageList
from src.structures.proposals import Proposals


@dataclass(frozen=True)
class Proposer:
    """The first stage of the detector with what it needs to see an example.

    Attributes:
        backbone: body and FPN.
        rpn: proposals.
        fabric: device and precision.
        batcher: from examples to a minibatch.
    """

    backbone: BackboneWithFpn
    rpn: RegionProposalNetwork
    fabric: Fabric
    batcher: Batcher

    @torch.no_grad()
    def features(self, images: ImageList) -> list[Tensor]:
        """P2..P5 and pool in the run's precision."""
        self.backbone.eval()
        with self.fabric.autocast():
            return self.backbone(images.tensors)

    @torch.no_grad()
    def propose(self, images: ImageList, features: Sequence[Tensor]) -> list[Proposals]:
        """Proposals of each image."""
        self.rpn.eval()
        with self.fabric.autocast():
            return self.rpn(images, features)

    def propose_on(self, example: Example) -> Proposals:
        """Proposals of one example, on the processor."""
        images = self.batcher.images([example])
        return self.propose(images, self.features(images))[0].cpu()

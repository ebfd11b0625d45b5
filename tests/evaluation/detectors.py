"""A small detector with random heads on pretrained features, and the predictor around it."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from src.core.params import Params
from src.detector.backbones import LiteBody
from src.detector.box_head import BoxHead
from src.detector.mask_head import MaskHead
from src.detector.mask_rcnn import BackboneWithFpn, MaskRCNN
from src.detector.roi_heads import RoiHeads
from src.detector.rpn import RegionProposalNetwork
from src.evaluation.predictor import Predictor
from src.sources.assignment import CLASSES
from src.structures.image_list import ImageList
from src.structures.proposals import Proposals
from tests.detector import small
from tests.factories import SMALL

PROPOSALS = 50  # that the box head sees


class GivenProposals(RegionProposalNetwork):
    """An RPN that proposes what the test says, best first."""

    def __init__(self, boxes: Tensor) -> None:
        super().__init__((32.0,) * 5, (1.0,), small.TORCHVISION_PROPOSALS, channels=1)
        self.boxes = boxes

    def forward(self, images: ImageList, features: Any) -> list[Proposals]:
        return [Proposals(self.boxes, torch.linspace(1, 0.5, len(self.boxes)))]


def small_detector(seed: int = 0) -> MaskRCNN:
    """A detector for the factories' small canvas; every score and every delta of its own varies."""
    torch.manual_seed(seed)
    backbone = BackboneWithFpn("efficientnet_lite0", LiteBody("efficientnet_lite0", pretrained=True))
    rpn = RegionProposalNetwork((8.0, 16.0, 32.0, 64.0, 96.0), (0.5, 1.0, 2.0), small.TORCHVISION_PROPOSALS)
    heads = RoiHeads(BoxHead(CLASSES.count, representation_size=16), MaskHead(CLASSES.count, channels=8))
    for number, head in enumerate((rpn, heads.box_head, heads.mask_head)):
        small.randomize(head.parameters(), seed + number, 0.1)
    return MaskRCNN(backbone, rpn, heads, small_params()).eval()


def small_params(proposals: int = PROPOSALS, **evaluate: Any) -> Params:
    """The small canvas; every detection counts unless `evaluate` says otherwise."""
    whole = small.params()
    return dataclasses.replace(
        whole,
        prepare=SMALL,
        features=dataclasses.replace(whole.features, proposals=proposals),
        evaluate=small.evaluate_params(**({"score_threshold": 0.0} | evaluate)),
        predict=dataclasses.replace(whole.predict, score_threshold=0.0),
    )


def predictor(detector: MaskRCNN, params: Params, boxes: Tensor | None = None) -> Predictor:
    """The detector with other params, and with given proposals if there are any, in float32."""
    rpn = detector.rpn if boxes is None else GivenProposals(boxes)
    changed = MaskRCNN(detector.backbone, rpn, detector.roi_heads, params).eval()
    return Predictor(changed, CLASSES, Fabric(accelerator="cpu", devices=1, precision="32-true"), params)

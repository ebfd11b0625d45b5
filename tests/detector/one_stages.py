"""Small one-stage detectors, and torchvision's RetinaNet with the same weights and rules."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead

from src.core.one_stage_params import OneStageParams
from src.core.params import Params
from src.detector.mask_rcnn import BackboneWithFpn
from src.detector.one_stage import OneStageDetector
from src.structures.image_list import ImageList
from src.structures.target import Target
from tests.detector.small import evaluate_params, params, randomize

CHANNELS = 256
CANVAS = (96, 128)
GRIDS = ((6, 8), (3, 4), (2, 2))  # of P4, P5 and the pooled level
CLASSES = 3


def one_stage_params(**changes: Any) -> OneStageParams:
    """The project's section, with RetinaNet's sizes."""
    return dataclasses.replace(params().one_stage, finest_level=4, channels=CHANNELS, **changes)


def settings(evaluate: dict[str, Any] | None = None, **changes: Any) -> Params:
    """The whole, for a canvas of 96 x 128: boxes are clipped at the border, as torchvision does."""
    whole = params(one_stage=one_stage_params(**changes), evaluate=evaluate_params(**(evaluate or {})))
    sizes = (8.0, 16.0, 32.0, 64.0, 96.0)
    return dataclasses.replace(whole, backbone=dataclasses.replace(whole.backbone, anchor_sizes=sizes))


class GivenLevels(BackboneWithFpn):
    """A backbone whose pyramid is random, and the same for an image whatever else is in the minibatch."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def levels_from(self, images: Tensor, finest_level: int) -> list[Tensor]:
        names = [int(image[0, 0, 0]) for image in images]
        return [torch.stack([self.level(name, number) for name in names]) for number in range(len(GRIDS))]

    def level(self, image: int, number: int) -> Tensor:
        draw = torch.Generator().manual_seed(10 * image + number)
        return torch.randn(CHANNELS, *GRIDS[number], generator=draw)


def detector(whole: Params | None = None, seed: int = 0) -> OneStageDetector:
    """A head without a weight or bias of 0, on given levels."""
    model = OneStageDetector(GivenLevels(), CLASSES, whole or settings())
    randomize(model.head.parameters(), seed, 0.02)
    return model.eval()


def images(*numbers: int) -> ImageList:
    """Pictures as large as the canvas, told apart by a number."""
    tensors = torch.stack([torch.full((3, *CANVAS), float(number)) for number in numbers])
    return ImageList(tensors, torch.tensor([[0.0, 0.0, CANVAS[1], CANVAS[0]]] * len(numbers)))


def target(boxes: Sequence[Sequence[float]], labels: Sequence[int], crowd: Sequence[Sequence[float]] = ()) -> Target:
    """Objects without masks."""
    none = torch.zeros(0, *CANVAS, dtype=torch.bool)
    return Target(_boxes(boxes), torch.tensor(labels, dtype=torch.int64), none, _boxes(crowd))


def _boxes(rows: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


OBJECTS = (
    target([[10, 12, 50, 60], [70, 20, 120, 90], [14, 10, 52, 58]], [1, 3, 2]),
    target([[30, 30, 62, 50]], [2]),
)


class GivenBackbone(nn.Module):
    """The same pyramid under torchvision's names."""

    out_channels = CHANNELS

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        return {str(number): level for number, level in enumerate(GivenLevels().levels_from(batch, 4))}


def torchvision_of(ours: OneStageDetector) -> RetinaNet:
    """torchvision's RetinaNet with our head's weights, our anchors and our rules."""
    options, rules = ours.params.one_stage, ours.params.evaluate
    ratios, sizes = ours.params.backbone.anchor_ratios, ours.params.backbone.anchor_sizes[2:]
    scales = [tuple(size * scale for scale in options.anchor_scales) for size in sizes]
    count = len(ratios) * len(options.anchor_scales)
    # Class 0 is torchvision's background, which no object has: ours begin at 1 and have no column for it.
    head = RetinaNetHead(CHANNELS, count, CLASSES, norm_layer=functools.partial(nn.GroupNorm, 32))
    mine = [layer for layer in ours.head.modules() if isinstance(layer, nn.Conv2d | nn.GroupNorm)]
    parts = (head.classification_head, head.regression_head)
    theirs = [layer for part in parts for layer in part.conv.modules() if isinstance(layer, nn.Conv2d | nn.GroupNorm)]
    pairs = [*zip(theirs, mine[:-2], strict=True), (parts[0].cls_logits, mine[-2]), (parts[1].bbox_reg, mine[-1])]
    for other, own in pairs:
        other.load_state_dict(own.state_dict())
    return RetinaNet(
        GivenBackbone(),
        CLASSES,
        min_size=CANVAS[0],
        max_size=CANVAS[1],
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        anchor_generator=AnchorGenerator(tuple(scales), (tuple(ratios),) * len(scales)),
        head=head,
        score_thresh=rules.score_threshold,
        nms_thresh=rules.nms_iou,
        detections_per_img=rules.detections_per_image,
        fg_iou_thresh=options.fg_iou_thresh,
        bg_iou_thresh=options.bg_iou_thresh,
    ).eval()

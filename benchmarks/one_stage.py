"""The one-stage detector's training step and inference beside torchvision's RetinaNet: the same weights, the same work.

torchvision's head has four convolutions in each tower, as wide as the pyramid, and its pyramid begins at P3. Here both
have the towers and the finest level that the settings say, so that what is compared is how the work is done.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList as TorchvisionImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from benchmarks.agreement import compare
from benchmarks.interleaved import BenchmarkCase
from benchmarks.steps import IMAGES, INFERRED, examples, training_calls, under_autocast
from benchmarks.torchvision_baseline import PYRAMID_CHANNELS
from src.core.params import Params
from src.core.runtime import make_fabric
from src.data.batches import Batcher
from src.data.letterbox import Letterbox
from src.detector.backbones import CHANNELS, LITE, set_trainable_layers
from src.detector.checkpoints import load_one_stage
from src.detector.mask_rcnn import FINEST
from src.detector.one_stage import OneStageDetector
from src.structures.detections import Detections
from src.structures.image_list import ImageList


def cases(params: Params) -> Iterator[Callable[[], BenchmarkCase]]:
    """Makers of both cases, for the model of a finished run."""
    yield functools.partial(training, params)
    yield functools.partial(inference, params)


class Levels(nn.Module):
    """The laboratory's body under torchvision's FPN, from the finest level on that is looked at."""

    def __init__(self, ours: OneStageDetector) -> None:
        super().__init__()
        self.skipped = ours.params.one_stage.finest_level - FINEST
        self.body = copy.deepcopy(ours.backbone.body).to(memory_format=torch.contiguous_format)
        self.out_channels = PYRAMID_CHANNELS
        channels = CHANNELS["efficientnet_lite0"][self.skipped :]
        self.fpn = FeaturePyramidNetwork(list(channels), PYRAMID_CHANNELS, LastLevelMaxPool())
        for own, other in (
            (ours.backbone.fpn.inner_blocks, self.fpn.inner_blocks),
            (ours.backbone.fpn.layer_blocks, self.fpn.layer_blocks),
        ):
            for given, block in zip(own[self.skipped :], other, strict=True):
                block[0].load_state_dict(given.state_dict())

    def forward(self, images: Tensor) -> Mapping[str, Tensor]:
        """Levels by name."""
        maps = self.body(images)[self.skipped :]
        return self.fpn(OrderedDict((str(number), one) for number, one in enumerate(maps)))


def torchvision_of(ours: OneStageDetector) -> RetinaNet:
    """Torchvision's RetinaNet with the laboratory's weights, towers, anchors and rules.

    It has no column for the background, as ours: a class's number is one less than its label here.
    """
    options, rules, backbone = ours.params.one_stage, ours.params.evaluate, ours.params.backbone
    scales = [
        tuple(size * scale for scale in options.anchor_scales)
        for size in backbone.anchor_sizes[options.finest_level - FINEST :]
    ]
    head = RetinaNetHead(PYRAMID_CHANNELS, len(backbone.anchor_ratios) * len(options.anchor_scales), ours.head.classes)
    own = copy.deepcopy(ours.head).to(memory_format=torch.contiguous_format)
    head.classification_head.conv, head.classification_head.cls_logits = own.cls_tower, own.cls_logits
    head.regression_head.conv, head.regression_head.bbox_reg = own.bbox_tower, own.bbox_pred
    canvas = (ours.params.prepare.height, ours.params.prepare.padded_width)
    return RetinaNet(
        Levels(ours),
        ours.head.classes,
        min_size=min(canvas),
        max_size=max(canvas),
        image_mean=list(LITE.mean),
        image_std=list(LITE.std),
        anchor_generator=AnchorGenerator(tuple(scales), (tuple(backbone.anchor_ratios),) * len(scales)),
        head=head,
        score_thresh=rules.score_threshold,
        nms_thresh=rules.nms_iou,
        detections_per_img=rules.detections_per_image,
        fg_iou_thresh=options.fg_iou_thresh,
        bg_iou_thresh=options.bg_iou_thresh,
    ).eval()


def training(params: Params) -> BenchmarkCase:
    """A step as stage `one_stage` makes it, against torchvision's of the same parts."""
    fabric, options = make_fabric(params.runtime), params.one_stage
    ours, _ = load_one_stage(params, fabric.device)
    ours.prepare_to_learn()
    theirs = torchvision_of(ours)
    theirs.requires_grad_(True)
    theirs.backbone.fpn.requires_grad_(options.train_fpn)
    theirs.backbone.body.requires_grad_(False)
    set_trainable_layers(theirs.backbone.body, options.trainable_layers)
    calls = training_calls(params, fabric, ours, theirs, first_label=0)
    return BenchmarkCase(
        work="One-stage training",
        conditions=f"an image of a step of {IMAGES}, in memory: the FPN and {towers(params)} learn by AdamW",
        implementations=calls,
        images=dict.fromkeys(calls, IMAGES),
    )


def towers(params: Params) -> str:
    """The head's size in words."""
    options = params.one_stage
    return f"a dense head of {options.convolutions} x {options.channels} on P{options.finest_level} and above"


class AsTheyAre(nn.Module):
    """In place of torchvision's own resizing and normalization: pictures that are ready."""

    def forward(self, images: Sequence[Tensor], targets: None = None) -> tuple[TorchvisionImageList, None]:
        """A minibatch of pictures of one size."""
        batch = torch.stack(list(images))
        return TorchvisionImageList(batch, [(batch.shape[2], batch.shape[3])] * len(images)), targets

    def postprocess(self, found: list[dict[str, Tensor]], *_: object) -> list[dict[str, Tensor]]:
        """Boxes are on the canvas already."""
        return found


def inference(params: Params) -> BenchmarkCase:
    """The whole detector on one normalized picture, with the same weights and rules."""
    rules = dataclasses.replace(params, evaluate=dataclasses.replace(params.evaluate, border="clip"))
    detector, _ = load_one_stage(rules, torch.device("cpu"))
    model = torchvision_of(detector)
    model.transform = AsTheyAre()
    pictures, batcher = examples("test", INFERRED), Batcher(LITE, torch.device("cpu"))
    height, width = pictures[0].image.shape[1:]
    canvas = Letterbox(height, width, width, height, width)  # torchvision clips to that
    images = [batcher.images([dataclasses.replace(example, letterbox=canvas)]) for example in pictures]
    planes = [image.tensors[0].contiguous() for image in images]
    mixed = make_fabric(params.runtime)
    plain = Fabric(accelerator="cpu", devices=1, precision="32-true")
    ours, theirs = functools.partial(detect, detector, images), functools.partial(detect_by_torchvision, model, planes)
    calls: dict[str, Callable[[], Any]] = {
        "ours, bf16": functools.partial(ours, mixed),
        "torchvision, float32": theirs,
        "torchvision, bf16 autocast": functools.partial(under_autocast, theirs),
        "ours, float32": functools.partial(ours, plain),
    }
    return BenchmarkCase(
        work="One-stage inference",
        conditions=f"one normalized picture of {height}x{width}, lite0, {towers(params)}; the same trained weights and "
        "rules",
        implementations=calls,
        images=dict.fromkeys(calls, len(images)),
        agreement=compare(ours(plain), theirs(), has_masks=False),
    )


@torch.no_grad()
def detect(detector: OneStageDetector, images: Sequence[ImageList], fabric: Fabric) -> list[Detections]:
    """What ours finds in minibatches of one picture each."""
    found: list[Detections] = []
    for image in images:
        with fabric.autocast():
            found += detector.detect(image)
    return found


@torch.no_grad()
def detect_by_torchvision(model: RetinaNet, planes: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """What torchvision's finds in the same pictures, with our labels."""
    return [{**one, "labels": one["labels"] + 1} for plane in planes for one in model([plane])]

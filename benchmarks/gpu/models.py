"""Our detector and torchvision's: the same untrained heads on the same pretrained body; and random pictures."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN

from benchmarks.operators import random_boxes
from benchmarks.torchvision_baseline import torchvision_mask_rcnn, with_weights_of
from src.core.params import Params
from src.core.params_file import load_params
from src.detector.backbones import set_trainable_layers
from src.detector.checkpoints import make_box_head, make_mask_head
from src.detector.mask_rcnn import MaskRCNN
from src.detector.roi_heads import RoiHeads
from src.detector.sampling import LossRules
from src.detector.weights import build
from src.sources.assignment import CLASSES
from src.structures.image_list import ImageList
from src.structures.target import Target

IMAGES = 2  # a minibatch
OBJECTS = 2  # per picture
SPREAD = 50  # of the untrained classifier's weights, so that scores differ


def settings(small: bool) -> Params:
    """The project's params, boxes clipped at the border as torchvision does; on a small canvas if `small`."""
    params = load_params()
    params = dataclasses.replace(params, evaluate=dataclasses.replace(params.evaluate, border="clip"))
    if not small:
        return params
    return dataclasses.replace(
        params,
        prepare=dataclasses.replace(params.prepare, height=96, width=128, padded_width=160),
        backbone=dataclasses.replace(params.backbone, anchor_sizes=(8.0, 16.0, 32.0, 64.0, 96.0)),
        features=dataclasses.replace(params.features, proposals=24),
        box_head=dataclasses.replace(params.box_head, representation_size=32),
        mask_head=dataclasses.replace(params.mask_head, channels=16),
        joint=dataclasses.replace(params.joint, box_batch_size_per_image=16),
    )


def our_detector(params: Params, device: torch.device) -> MaskRCNN:
    """Ours under the rules of joint training; the same weights at every call."""
    torch.manual_seed(0)
    backbone, rpn = build(params.backbone, params.proposals)
    set_trainable_layers(backbone.body, params.joint.trainable_layers)
    heads = RoiHeads(make_box_head(params, CLASSES), make_mask_head(params, CLASSES))
    with torch.no_grad():
        heads.box_head.cls_score.weight *= SPREAD
    model = MaskRCNN(backbone, rpn, heads, params, LossRules.for_joint_training(params))
    return model.to(device).to(memory_format=torch.channels_last)


def torchvision_detector(params: Params, device: torch.device) -> TorchvisionMaskRCNN:
    """That of torchvision with the same weights, of which the same ones learn."""
    ours = our_detector(params, torch.device("cpu"))
    body = copy.deepcopy(ours.backbone.body).to(memory_format=torch.contiguous_format)
    model = with_weights_of(torchvision_mask_rcnn(params, CLASSES, body), ours)
    model.rpn.min_size = params.proposals.min_size
    return model.to(device)


def pictures(params: Params, count: int, device: torch.device) -> tuple[Tensor, list[Target]]:
    """Random pictures [count, 3, H, W] in 0..1 with rectangles as objects, the same at every call."""
    draw, size = torch.Generator().manual_seed(2), (params.prepare.height, params.prepare.padded_width)
    images = torch.rand(count, 3, *size, generator=draw)
    targets = [_target(random_boxes(OBJECTS, draw, size, longest=max(size) / 2), size) for _ in range(count)]
    return images.to(device), [target.to(device) for target in targets]


def _target(boxes: Tensor, size: tuple[int, int]) -> Target:
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.long().tolist(), strict=True):
        mask[y1 : y2 + 1, x1 : x2 + 1] = True
    return Target(boxes, 1 + torch.arange(len(boxes)), masks, torch.zeros(0, 4))


def image_list(images: Tensor) -> ImageList:
    """A minibatch that fills its canvas, normalized as the body wants it, channels last."""
    height, width = images.shape[2:]
    normalized = ((images - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)
    region = torch.tensor([0.0, 0.0, width, height], device=images.device)
    return ImageList(normalized, region.expand(len(images), 4))

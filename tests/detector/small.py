"""Small networks and params for the tests of detector, training and evaluation."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection import maskrcnn_resnet50_fpn

from src.core.params import BackboneLossWeights, BackboneParams, EvaluateParams, Params, ProposalsParams
from src.core.params_file import load_params
from src.data.prepared import Example
from src.detector.mask_rcnn import MaskRCNN
from src.structures.target import Target, no_target

CPU = torch.device("cpu")
CANVAS = (96, 128)  # H, W
REGION = (0.0, 0.0, 128.0, 96.0)
TORCHVISION_PROPOSALS = ProposalsParams(pre_nms_top_n=1000, nms_iou=0.7, post_nms_top_n=1000, min_size=1e-3)


def params(**sections: Any) -> Params:
    """The project's `params.yaml` with some sections replaced."""
    return dataclasses.replace(_project_params(), **sections)


@functools.cache
def _project_params() -> Params:
    return load_params(Path(__file__).parents[2] / "params.yaml")


def backbone_params(**changes: Any) -> BackboneParams:
    """The backbone section, ResNet-50 without weights."""
    values: dict[str, Any] = {
        "name": "resnet50",
        "weights": "none",
        "trainable_layers": 3,
        "epochs": 1,
        "batch_size": 2,
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
        "anchor_sizes": (32.0, 64.0, 128.0, 256.0, 512.0),
        "anchor_ratios": (0.5, 1.0, 2.0),
        "fg_iou_thresh": 0.7,
        "bg_iou_thresh": 0.3,
        "rpn_batch_size_per_image": 32,
        "box_batch_size_per_image": 16,
        "flip": True,
        "loss_weights": BackboneLossWeights(1.0, 1.0, 1.0, 1.0),
        "seed": 1,
    }
    return BackboneParams(**(values | changes))


def evaluate_params(**changes: Any) -> EvaluateParams:
    """The evaluate section with the papers' values."""
    values: dict[str, Any] = {
        "split": "test",
        "score_threshold": 0.05,
        "nms_iou": 0.5,
        "class_agnostic_nms": False,
        "detections_per_image": 100,
        "border": "clip",
        "mask_threshold": 0.5,
        "box_passes": 1,
        "objectness_power": 0.0,
    }
    return EvaluateParams(**(values | changes))


def with_params(detector: MaskRCNN, **sections: Any) -> MaskRCNN:
    """The same networks with some sections of their params replaced."""
    changed = dataclasses.replace(detector.params, **sections)
    return MaskRCNN(detector.backbone, detector.rpn, detector.roi_heads, changed)


def with_objects(example: Example, count: int) -> Example:
    """An example whose first `count` objects are known; the others become crowd regions."""
    target = example.target
    few = Target(target.boxes[:count], target.labels[:count], target.masks[:count], target.boxes[count:])
    return dataclasses.replace(example, target=few)


def without_objects(example: Example) -> Example:
    """An example of which nothing is known."""
    return dataclasses.replace(example, target=no_target(*example.image.shape[1:]))


def randomize(tensors: Iterable[Tensor], seed: int, scale: float = 0.3) -> None:
    """Fills tensors with normal numbers, so that no bias or weight is 0 by chance of its initialization."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in tensors:
            tensor.copy_(torch.randn(tensor.shape, generator=draw) * scale)


def torchvision_detector(seed: int = 0) -> TorchvisionMaskRCNN:
    """torchvision's Mask R-CNN with 4 classes as it would be after training on its own: random, but alive.

    Normalization has epsilon 0, as the weights that torchvision and the course publish; statistics and biases are
    random, and the heads' weights large enough that scores differ. It takes pictures of `CANVAS` as they are.
    """
    torch.manual_seed(seed)
    model = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=4,
        min_size=CANVAS[0],
        max_size=CANVAS[1],
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
    ).eval()
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
                statistics = dict(module.named_buffers())
                statistics["running_mean"].normal_(std=0.1)
                statistics["running_var"].uniform_(0.5, 1.5)
                module.weight.uniform_(0.1, 0.3) if name.endswith("bn3") else module.weight.uniform_(0.5, 1.0)
                module.bias.normal_(std=0.1)
        for name, bias in model.named_parameters():
            if name.endswith("bias") and ("fpn" in name or "head" in name or "predictor" in name):
                bias.normal_(std=0.1)
    return model


def normalize_scale(model: TorchvisionMaskRCNN, images: Tensor) -> None:
    """Scales torchvision's FPN so that its levels have a spread of about 1, and the RPN's head so that scores vary."""
    with torch.no_grad():
        levels = list(model.backbone(images).values())
        for block, level in zip(model.backbone.fpn.layer_blocks, levels, strict=False):
            block[0].weight /= level.std()
            block[0].bias /= level.std()
        model.rpn.head.cls_logits.weight *= 20
        model.rpn.head.bbox_pred.weight *= 5


def course_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A torchvision state dict under the key names of torchvision 0.4, frozen normalization."""
    renamed = {}
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        for new, old in (
            *((f"{blocks}.{i}.0.", f"{blocks}.{i}.") for blocks in ("inner_blocks", "layer_blocks") for i in range(4)),
            ("head.conv.0.0.", "head.conv."),
            *((f"mask_head.{i}.0.", f"mask_head.mask_fcn{i + 1}.") for i in range(4)),
        ):
            name = name.replace(new, old)  # noqa: PLW2901 - one rule after another
        renamed[name] = value.clone()
    return renamed


def course_checkpoint(model: TorchvisionMaskRCNN) -> dict[str, dict[str, Tensor]]:
    """The course's format: state dicts of backbone and RPN."""
    return {part: course_names(getattr(model, part).state_dict()) for part in ("backbone", "rpn")}

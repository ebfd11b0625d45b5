"""torchvision's Mask R-CNN around this project's body and weights, as its users would assemble it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from src.core.params import Params
from src.detector import mask_rcnn
from src.detector.backbones import CHANNELS, LITE0, Lite0Body

LEVELS = ["0", "1", "2", "3"]


class Backbone(nn.Module):
    """EfficientNet-Lite0 under torchvision's FPN; its frozen normalization is folded, which favors the peer."""

    def __init__(self, body: Lite0Body) -> None:
        super().__init__()
        self.body, self.out_channels = body, 256
        self.fpn = FeaturePyramidNetwork(CHANNELS["efficientnet_lite0"], 256, LastLevelMaxPool())

    def forward(self, images: Tensor) -> Mapping[str, Tensor]:
        """Levels by name."""
        return self.fpn(OrderedDict(zip(LEVELS, self.body(images), strict=True)))


def torchvision_mask_rcnn(params: Params, body: Lite0Body, image_sides: Sequence[int] = (800, 1088)) -> MaskRCNN:
    """The detector with the laboratory's anchors, counts and thresholds and torchvision's own training rules.

    Args:
        params: where the numbers come from.
        body: shared or copied; it is not changed here.
        image_sides: smallest and largest side that its transform resizes to.
    """
    backbone, proposals, rules = params.backbone, params.proposals, params.evaluate
    return MaskRCNN(
        Backbone(body),
        num_classes=4,
        min_size=image_sides[0],
        max_size=image_sides[1],
        image_mean=list(LITE0.mean),
        image_std=list(LITE0.std),
        rpn_anchor_generator=AnchorGenerator(
            tuple((int(size),) for size in backbone.anchor_sizes),
            (tuple(backbone.anchor_ratios),) * len(backbone.anchor_sizes),
        ),
        rpn_pre_nms_top_n_test=proposals.pre_nms_top_n,
        rpn_post_nms_top_n_test=params.features.proposals,
        rpn_nms_thresh=proposals.nms_iou,
        box_roi_pool=MultiScaleRoIAlign(LEVELS, 7, sampling_ratio=2),
        mask_roi_pool=MultiScaleRoIAlign(LEVELS, 14, sampling_ratio=2),
        box_score_thresh=rules.score_threshold,
        box_nms_thresh=rules.nms_iou,
        box_detections_per_img=rules.detections,
    )


def with_weights_of(model: MaskRCNN, detector: mask_rcnn.MaskRCNN) -> MaskRCNN:
    """Gives torchvision's detector the laboratory's weights; every tensor must find its place."""
    states = {
        "backbone": detector.backbone,
        "rpn": detector.rpn,
        "roi_heads.box_head": detector.box_head,
        "roi_heads.box_predictor": detector.box_head,
        "roi_heads.mask_head": detector.mask_head,
        "roi_heads.mask_predictor": detector.mask_head,
    }
    given = {
        f"{part}.{name}": value
        for part, module in states.items()
        for name, value in module.state_dict().items()
        if belongs(part, name)
    }
    wanted = model.state_dict()
    model.load_state_dict({name: given[older(name)] for name in wanted})
    return model


def belongs(part: str, name: str) -> bool:
    """Which of torchvision's two modules holds a head's tensor."""
    if not part.startswith("roi_heads"):
        return True
    last = name.startswith(("cls_score", "bbox_pred", "conv5_mask", "mask_fcn_logits"))
    return last == part.endswith("predictor")


def older(name: str) -> str:
    """A key of torchvision 0.13 and later as this project has it."""
    for number in range(4):
        for blocks in ("inner_blocks", "layer_blocks"):
            name = name.replace(f"{blocks}.{number}.0.", f"{blocks}.{number}.")
        name = name.replace(f"mask_head.{number}.0.", f"mask_head.mask_fcn{number + 1}.")
    return name.replace("head.conv.0.0.", "head.conv.")


def targets_of(boxes: Tensor, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """One image's ground truth in torchvision's form."""
    return {"boxes": boxes, "labels": labels, "masks": masks.to(torch.uint8)}

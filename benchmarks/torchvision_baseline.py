"""torchvision's Mask R-CNN around this project's body and weights, as its users would assemble it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from src.core.params import Params
from src.detector import box_head, mask_head, mask_rcnn
from src.detector.backbones import CHANNELS, LITE, LiteBody
from src.detector.weights import rename
from src.structures.classes import Classes
from src.structures.target import Target

LEVELS = ["0", "1", "2", "3"]
PYRAMID_CHANNELS = 256


class Backbone(nn.Module):
    """EfficientNet-Lite0 under torchvision's FPN; its frozen normalization is folded, which favors the baseline."""

    def __init__(self, body: LiteBody) -> None:
        super().__init__()
        self.body, self.out_channels = body, PYRAMID_CHANNELS
        self.fpn = FeaturePyramidNetwork(CHANNELS["efficientnet_lite0"], PYRAMID_CHANNELS, LastLevelMaxPool())

    def forward(self, images: Tensor) -> Mapping[str, Tensor]:
        """Levels by name."""
        return self.fpn(OrderedDict(zip(LEVELS, self.body(images), strict=True)))


def torchvision_mask_rcnn(params: Params, classes: Classes, body: LiteBody) -> MaskRCNN:
    """The detector with the laboratory's sizes, counts and thresholds and torchvision's own training rules.

    Args:
        params: where the numbers come from.
        classes: that it tells apart.
        body: shared or copied; it is not changed here.
    """
    backbone, proposals, rules = params.backbone, params.proposals, params.evaluate
    width, channels = params.box_head.representation_size, params.mask_head.channels
    canvas = (params.prepare.height, params.prepare.padded_width)
    return MaskRCNN(
        Backbone(body),
        min_size=min(canvas),
        max_size=max(canvas),
        image_mean=list(LITE.mean),
        image_std=list(LITE.std),
        rpn_anchor_generator=AnchorGenerator(
            tuple((int(size),) for size in backbone.anchor_sizes),
            (tuple(backbone.anchor_ratios),) * len(backbone.anchor_sizes),
        ),
        rpn_pre_nms_top_n_test=proposals.pre_nms_top_n,
        rpn_post_nms_top_n_test=params.features.proposals,
        rpn_nms_thresh=proposals.nms_iou,
        box_roi_pool=MultiScaleRoIAlign(LEVELS, box_head.SIZE, sampling_ratio=2),
        box_head=TwoMLPHead(PYRAMID_CHANNELS * box_head.SIZE**2, width),
        box_predictor=FastRCNNPredictor(width, classes.count),
        box_score_thresh=rules.score_threshold,
        box_nms_thresh=rules.nms_iou,
        box_detections_per_img=rules.detections_per_image,
        mask_roi_pool=MultiScaleRoIAlign(LEVELS, mask_head.SIZE, sampling_ratio=2),
        mask_head=MaskRCNNHeads(PYRAMID_CHANNELS, (channels,) * 4, dilation=1),
        mask_predictor=MaskRCNNPredictor(channels, channels, classes.count),
    )


def with_weights_of(model: MaskRCNN, detector: mask_rcnn.MaskRCNN) -> MaskRCNN:
    """Gives torchvision's detector the laboratory's weights.

    Raises:
        ValueError: a tensor of one of them has no place in the other.
    """
    given, wanted = detector.state_dict(), model.state_dict()
    names = dict(zip(wanted, (name.replace("_predictor.", "_head.") for name in rename(wanted)), strict=True))
    if homeless := given.keys() ^ set(names.values()):
        raise ValueError(f"weights: expected the same tensors in both detectors, found only in one {min(homeless)}")
    model.load_state_dict({name: given[ours] for name, ours in names.items()})
    return model


def targets_of(target: Target) -> dict[str, Tensor]:
    """One image's ground truth in torchvision's form."""
    return {"boxes": target.boxes, "labels": target.labels, "masks": target.masks.to(torch.uint8)}

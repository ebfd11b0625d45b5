"""The assembled detector: body and FPN, proposals, box head, post-processing, mask head (tasks 10 to 17).

Everything is in canvas coordinates; `Letterbox` takes boxes and masks back to the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torchvision.ops import batched_nms

from src.core.params import EvaluateParams
from src.detector import box_head, mask_head
from src.detector.backbones import CHANNELS, STRIDES, Lite0Body, ResNetBody
from src.detector.fpn import FeaturePyramid
from src.detector.rpn import Proposals, RegionProposalNetwork
from src.ops.boxes import clip, is_inside, is_not_empty
from src.ops.roi_align import multiscale_roi_align
from src.structures.image_list import ImageList

SMALLEST_SIDE = 1.0  # canvas pixels; a thinner detection is empty


class BackboneWithFpn(nn.Module):
    """A body and the FPN over it; keys `body.*` and `fpn.*`, as in the course's checkpoint."""

    def __init__(self, name: str, body: Lite0Body | ResNetBody) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramid(CHANNELS[name])

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """P2..P5 and pool, [B, 256, H / stride, W / stride] each."""
        return self.fpn(self.body(images))

    def merged(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The FPN's maps before their output convolutions."""
        return self.fpn.merge(self.body(images))


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best first.

    Attributes:
        boxes: x1 y1 x2 y2 on the canvas.
        labels: 1..3.
        scores: probability of the label, 0..1.
        proposals: the RPN's box that each detection was refined from.
        masks: probability of the object in the cells of its box; none until the mask head has run.
    """

    boxes: Float[Tensor, "d 4"]
    labels: Int64[Tensor, " d"]
    scores: Float[Tensor, " d"]
    proposals: Float[Tensor, "d 4"]
    masks: Float[Tensor, "d m m"]


class MaskRCNN(nn.Module):
    """Two-stage instance segmentation.

    Args:
        backbone: body and FPN.
        rpn: proposals.
        box_head: classifier and regressor.
        mask_head: masks.
        proposals: how many of the RPN's proposals the box head sees.
    """

    def __init__(
        self,
        backbone: BackboneWithFpn,
        rpn: RegionProposalNetwork,
        box_head: nn.Module,
        mask_head: nn.Module,
        proposals: int,
    ) -> None:
        super().__init__()
        self.backbone, self.rpn, self.box_head, self.mask_head = backbone, rpn, box_head, mask_head
        self.proposals = proposals

    def forward(self, images: ImageList, params: EvaluateParams) -> list[Detections]:
        """Detections of each image, with their masks."""
        features = self.backbone(images.tensors)
        proposals = [found.best(self.proposals) for found in self.rpn(images, features)]
        return self.detect(features, proposals, images.contents, params)

    def detect(
        self,
        features: Sequence[Tensor],
        proposals: Sequence[Proposals],
        contents: Float[Tensor, "b 4"],
        params: EvaluateParams,
    ) -> list[Detections]:
        """The second stage: classes, refined boxes, post-processing, masks."""
        boxes = [found.boxes for found in proposals]
        logits, deltas = self.box_head(pool(features, boxes, box_head.SIZE))
        counts = [len(found) for found in boxes]
        found = [
            postprocess(image_logits, image_deltas, image_boxes, content, params)
            for image_logits, image_deltas, image_boxes, content in zip(
                logits.split(counts), deltas.split(counts), boxes, contents, strict=True
            )
        ]
        return self.add_masks(features, found)

    def add_masks(self, features: Sequence[Tensor], found: Sequence[Detections]) -> list[Detections]:
        """The mask of each detection's class, from features pooled at its refined box."""
        pooled = pool(features, [image.boxes for image in found], mask_head.SIZE)
        labels = torch.cat([image.labels for image in found])
        masks = mask_head.select_class_masks(self.mask_head(pooled), labels).sigmoid()
        parts = masks.split([len(image.labels) for image in found])
        return [
            Detections(image.boxes, image.labels, image.scores, image.proposals, part)
            for image, part in zip(found, parts, strict=True)
        ]


def pool(features: Sequence[Tensor], boxes: Sequence[Float[Tensor, "_ 4"]], size: int) -> Float[Tensor, "r c p p"]:
    """RoIAlign over P2..P5 of each image's boxes, rows in order of images, then boxes."""
    return multiscale_roi_align(features[:4], with_image_index(boxes), size, STRIDES)


def with_image_index(boxes: Sequence[Float[Tensor, "_ 4"]]) -> Float[Tensor, "r 5"]:
    """Boxes of all images as (image index, x1, y1, x2, y2)."""
    index = torch.cat([torch.full_like(image[:, :1], number) for number, image in enumerate(boxes)])
    return torch.cat([index, torch.cat(list(boxes))], dim=1)


def postprocess(
    logits: Float[Tensor, "r k"],
    deltas: Float[Tensor, "r four_k"],
    proposals: Float[Tensor, "r 4"],
    content: Float[Tensor, " 4"],
    params: EvaluateParams,
) -> Detections:
    """Task 15: decode, drop empty and cross-boundary boxes and low scores, NMS within each class, best 100.

    With `params.border` "clip", boxes are cut at the picture's border in place of being removed.
    """
    scores = logits.softmax(dim=1)[:, 1:]  # [R, K-1]
    boxes = box_head.decode_scaled(deltas, proposals)[:, 1:]  # [R, K-1, 4]
    rows, classes = (scores > params.score_threshold).nonzero(as_tuple=True)
    boxes, scores = boxes[rows, classes], scores[rows, classes]
    if params.border == "clip":
        boxes = clip(boxes, content)
    valid = is_not_empty(boxes, SMALLEST_SIDE) & is_inside(boxes, content)
    rows, classes, boxes, scores = rows[valid], classes[valid], boxes[valid], scores[valid]
    kept = batched_nms(boxes, scores, classes, params.nms_iou)[: params.detections]
    empty = boxes.new_zeros((len(kept), 0, 0))
    return Detections(boxes[kept], classes[kept] + 1, scores[kept], proposals[rows[kept]], empty)

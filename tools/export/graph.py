"""The detector as one graph of tensor operations, which `torch.export` can trace and ONNX can hold.

`MaskRCNN.detect` counts in Python: how many boxes are left, which level each RoI is pooled from. A traced program has
no such numbers. So its two places that need them, the choice of proposals and RoIAlign's levels, are written here once
more, for one picture, on torchvision's NMS and RoIAlign; networks, decoding, borders and the box head's looks are the
detector's own.

Letters in shapes: n proposals; d detections; s side of a mask; h, w canvas, multiples of 32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from src.core.params import EvaluateParams
from src.detector import box_head, mask_head
from src.detector.fpn import STRIDES
from src.detector.mask_rcnn import MaskRCNN
from src.detector.postprocess import SMALLEST_SIDE, Candidates
from src.detector.roi_heads import RoiHeads
from src.detector.rpn import RegionProposalNetwork
from src.ops.anchors import grid_anchors, size_ratio_anchors
from src.ops.boxes import clip, decode, is_inside, is_not_empty
from src.ops.roi_align import assign_levels
from src.structures.proposals import Proposals
from tools.export.body import with_fixed_padding


class DetectorGraph(nn.Module):
    """`MaskRCNN.detect` of one picture, with tensors for its result.

    Args:
        detector: frozen, in float32, on the processor.

    Raises:
        ValueError: it has no mask head.
    """

    def __init__(self, detector: MaskRCNN) -> None:
        super().__init__()
        self.backbone, self.rpn = with_fixed_padding(detector.backbone), detector.rpn
        if detector.roi_heads.mask_head is None:
            raise ValueError("masks: expected a mask head, found none")
        self.heads, self.mask_head = _Heads(detector.roi_heads.box_head), detector.roi_heads.mask_head
        self.proposals, self.params = detector.params.features.proposals, detector.params.evaluate
        self.cells = [size_ratio_anchors(size, detector.rpn.ratios).round() for size in detector.rpn.sizes]

    def forward(
        self, image: Float[Tensor, "1 3 h w"], region: Float[Tensor, " 4"]
    ) -> tuple[Float[Tensor, "d 4"], Int64[Tensor, " d"], Float[Tensor, " d"], Float[Tensor, "d s s"]]:
        """Boxes in canvas pixels, labels from 1 on, scores, and masks' probabilities in the cells of their boxes.

        Args:
            image: a normalized canvas, 0 outside the picture.
            region: x1 y1 x2 y2 of the picture on it.
        """
        features = self.backbone(image)
        anchors = place_anchors(self.cells, image.shape[-2:], features)
        proposals = _propose(self.rpn, features, anchors, region, self.proposals)
        (candidates,) = self.heads.refine(features, [proposals], region[None], self.params)
        boxes, labels, scores = _select(candidates, region, self.params)
        masks = self.mask_head(pool(features, boxes, mask_head.SIZE))
        return boxes, labels, scores, masks[torch.arange(labels.shape[0]), labels].sigmoid()


class _Heads(RoiHeads):
    """The heads of one picture, pooled from levels without counting in Python."""

    def _look(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Candidates]:
        outputs = self.box_head(pool(features, boxes[0], box_head.SIZE))
        return [Candidates.from_head(boxes[0], *outputs)]


def place_anchors(cells: Sequence[Tensor], canvas: Sequence[int], features: Sequence[Tensor]) -> list[Tensor]:
    """Of each level, as `pyramid_anchors` places them, whose cache needs sizes that are numbers."""
    grids = [level.shape[-2:] for level in features]
    pairs = zip(cells, grids, strict=True)
    return [
        grid_anchors(cell, rows, columns, (canvas[0] // rows, canvas[1] // columns)) for cell, (rows, columns) in pairs
    ]


def _propose(
    rpn: RegionProposalNetwork, features: Sequence[Tensor], anchors: Sequence[Tensor], region: Tensor, count: int
) -> Proposals:
    """The RPN's `count` best boxes: of each level decoded, clipped, suppressed, then the best of all."""
    boxes, scores = [], []
    for level, level_anchors in zip(features, anchors, strict=True):
        logits, deltas = (outputs[0] for outputs in rpn.head(level))
        top = logits.topk(torch.sym_min(rpn.params.pre_nms_top_n, logits.shape[0]))
        decoded = clip(decode(deltas[top.indices], level_anchors[top.indices]), region)
        kept = is_not_empty(decoded, rpn.params.min_size).nonzero().squeeze(1)
        decoded, objectness = decoded[kept], top.values[kept].sigmoid()
        kept = suppress(decoded, objectness, rpn.params.nms_iou)
        boxes.append(decoded[kept])
        scores.append(objectness[kept])
    all_boxes, all_scores = torch.cat(boxes), torch.cat(scores)
    best = all_scores.argsort(descending=True)[: min(count, rpn.params.post_nms_top_n)]
    return Proposals(all_boxes[best], all_scores[best])


def pool(features: Sequence[Tensor], boxes: Float[Tensor, "n 4"], size: int) -> Float[Tensor, "n c p p"]:
    """RoIAlign of each box on its level of P2..P5."""
    levels = assign_levels(boxes, len(STRIDES))
    rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)
    members = [(levels == number).nonzero().squeeze(1) for number in range(len(STRIDES))]
    parts = [
        roi_align(level, rois[chosen], size, 1.0 / stride, sampling_ratio=2, aligned=True)
        for level, chosen, stride in zip(features[: len(STRIDES)], members, STRIDES, strict=True)
    ]
    return torch.cat(parts)[torch.cat(members).argsort()]


def _select(candidates: Candidates, region: Tensor, params: EvaluateParams) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, labels and scores that are left of the candidates, best first (see `src.detector.postprocess`)."""
    rows, classes = (candidates.scores > params.score_threshold).nonzero().unbind(1)
    boxes, scores = candidates.boxes[rows, classes], candidates.scores[rows, classes]
    if params.border == "clip":
        boxes = clip(boxes, region)
    kept = (is_not_empty(boxes, SMALLEST_SIDE) & is_inside(boxes, region)).nonzero().squeeze(1)
    boxes, scores, labels = boxes[kept], scores[kept], classes[kept] + 1
    apart = labels * (0 if params.class_agnostic_nms else 1)
    # Classes lie side by side, beyond each other's reach.
    best = suppress(boxes + (apart * (region.max() + 1))[:, None], scores, params.nms_iou)[
        : params.detections_per_image
    ]
    return boxes[best], labels[best], scores[best]


def suppress(boxes: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], iou: float) -> Int64[Tensor, " d"]:
    """The boxes that are kept, best first.

    torchvision promises the tracer that at least two are, and a `torch.export` program fails where that is not so. So
    two boxes are added that overlap none, as no picture has them, and come last, as no score is so low.
    """
    others = boxes.new_tensor([[-9.0, -9, -8, -8], [-6, -6, -5, -5]])
    return nms(torch.cat([boxes, others]), torch.cat([scores, others[:, 0]]), iou)[:-2]

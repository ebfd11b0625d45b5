"""From what a detector says of its candidates to detections (task 15)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import batched_nms

from src.core.params import EvaluateParams
from src.detector.box_head import decode_scaled
from src.ops.boxes import clip, is_inside, is_not_empty
from src.structures.detections import Detections

SMALLEST_SIDE = 1.0  # canvas pixels; a thinner detection is empty


@dataclass(frozen=True)
class Candidates:
    """What the box head makes of an image's proposals, k classes with background.

    Attributes:
        proposals: canvas pixels.
        logits: of each proposal's classes, background first.
        deltas: scaled, four per class.
        scores: of each class but background, 0..1.
        boxes: of each class but background, canvas pixels.
    """

    proposals: Float[Tensor, "r 4"]
    logits: Float[Tensor, "r k"]
    deltas: Float[Tensor, "r four_k"]
    scores: Float[Tensor, "r c"]
    boxes: Float[Tensor, "r c 4"]

    @classmethod
    def from_head(
        cls, proposals: Float[Tensor, "r 4"], logits: Float[Tensor, "r k"], deltas: Float[Tensor, "r four_k"]
    ) -> Candidates:
        """From one look of the box head at the proposals."""
        return cls(proposals, logits, deltas, logits.softmax(dim=1)[:, 1:], decode_scaled(deltas, proposals)[:, 1:])

    def best_boxes(self) -> Float[Tensor, "r 4"]:
        """The box of each proposal's most probable class but background."""
        best = self.scores.argmax(dim=1)[:, None, None].expand(-1, 1, 4)
        return self.boxes.gather(1, best).squeeze(1)


def postprocess(candidates: Candidates, region: Float[Tensor, " 4"], params: EvaluateParams) -> Detections:
    """Drops low scores of the box head's, and selects among the others.

    Args:
        candidates: of one image.
        region: the picture on the canvas.
        params: thresholds and counts.
    """
    rows, classes = (candidates.scores > params.score_threshold).nonzero(as_tuple=True)
    boxes, scores = candidates.boxes[rows, classes], candidates.scores[rows, classes]
    return select(without_masks(boxes, classes + 1, scores, candidates.proposals[rows]), region, params)


def without_masks(boxes: Tensor, labels: Tensor, scores: Tensor, proposals: Tensor) -> Detections:
    """Detections whose masks are not known, or never will be."""
    return Detections(boxes, labels, scores, proposals, boxes.new_zeros((len(boxes), 0, 0)))


def select(found: Detections, region: Float[Tensor, " 4"], params: EvaluateParams) -> Detections:
    """Drops empty and cross-boundary boxes, suppresses within each class, keeps the best 100.

    With `params.border` "clip", boxes are cut at the picture's border instead of being removed; with
    `params.class_agnostic_nms` a box suppresses those of all classes.

    Args:
        found: in one image, in any order.
        region: the picture on the canvas.
        params: thresholds and counts.
    """
    if params.border == "clip":
        found = dataclasses.replace(found, boxes=clip(found.boxes, region))
    found = found.keep(is_not_empty(found.boxes, SMALLEST_SIDE) & is_inside(found.boxes, region))
    groups = torch.zeros_like(found.labels) if params.class_agnostic_nms else found.labels - 1
    kept = batched_nms(found.boxes, found.scores, groups, params.nms_iou)[: params.detections_per_image]
    return found.keep(kept)

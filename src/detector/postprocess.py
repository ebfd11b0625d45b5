"""From the box head's outputs to detections (task 15)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torchvision.ops import batched_nms

from src.core.params import EvaluateParams
from src.detector.box_head import decode_scaled
from src.ops.boxes import clip, is_inside, is_not_empty
from src.structures.detections import Detections

SMALLEST_SIDE = 1.0  # canvas pixels; a thinner detection is empty


def postprocess(
    logits: Float[Tensor, "r k"],
    deltas: Float[Tensor, "r four_k"],
    proposals: Float[Tensor, "r 4"],
    region: Float[Tensor, " 4"],
    params: EvaluateParams,
) -> Detections:
    """Decodes, drops empty and cross-boundary boxes and low scores, suppresses within each class, keeps the best 100.

    With `params.border` "clip", boxes are cut at the picture's border instead of being removed.

    Args:
        logits: of each proposal's classes, background first.
        deltas: scaled, four per class.
        proposals: canvas pixels.
        region: the picture on the canvas.
        params: thresholds and counts.
    """
    scores = logits.softmax(dim=1)[:, 1:]  # [R, K-1]
    boxes = decode_scaled(deltas, proposals)[:, 1:]  # [R, K-1, 4]
    rows, classes = (scores > params.score_threshold).nonzero(as_tuple=True)
    boxes, scores = boxes[rows, classes], scores[rows, classes]
    if params.border == "clip":
        boxes = clip(boxes, region)
    valid = is_not_empty(boxes, SMALLEST_SIDE) & is_inside(boxes, region)
    rows, classes, boxes, scores = rows[valid], classes[valid], boxes[valid], scores[valid]
    kept = batched_nms(boxes, scores, classes, params.nms_iou)[: params.detections_per_image]
    empty = boxes.new_zeros((len(kept), 0, 0))
    return Detections(boxes[kept], classes[kept] + 1, scores[kept], proposals[rows[kept]], empty)

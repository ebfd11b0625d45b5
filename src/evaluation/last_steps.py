"""How far an object's candidates get in the second stage: the step that loses it, by `src.evaluation.funnel`'s names.

Letters: g objects, r proposals of an image, a anchors.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from src.core.params import EvaluateParams
from src.detector.postprocess import SMALLEST_SIDE, Candidates
from src.evaluation.funnel import COVERS
from src.ops.boxes import box_iou, clip, is_inside, is_not_empty
from src.structures.classes import BACKGROUND


def last_steps(
    boxes: Float[Tensor, "g 4"],
    labels: Int64[Tensor, " g"],
    anchors: Float[Tensor, "a 4"],
    candidates: Candidates,
    region: Float[Tensor, " 4"],
    params: EvaluateParams,
) -> list[str]:
    """The step that loses each object of an image, unless a detection takes it in the end: one of `STEPS`.

    Args:
        boxes: the objects, canvas pixels.
        labels: their classes.
        anchors: all that the RPN starts from, canvas pixels.
        candidates: what the box head makes of the proposals.
        region: the picture on the canvas.
        params: border rule and thresholds, as `postprocess` takes them.
    """
    objects = zip(boxes, labels.tolist(), strict=True)
    return [_last_step(box[None], label, anchors, candidates, region, params) for box, label in objects]


def _last_step(
    box: Float[Tensor, "1 4"],
    label: int,
    anchors: Float[Tensor, "a 4"],
    candidates: Candidates,
    region: Float[Tensor, " 4"],
    params: EvaluateParams,
) -> str:
    near = _covers(candidates.proposals, box)
    if not near.any():
        return "no_proposal" if _covers(anchors, box).any() else "no_anchor"
    said = candidates.logits.argmax(dim=1)
    right = near & (said == label)
    if not right.any():
        return "background" if (said[near] == BACKGROUND).all() else "other_class"
    refined, scores = candidates.boxes[right, label - 1], candidates.scores[right, label - 1]
    if params.border == "clip":
        refined = clip(refined, region)
    fits = _covers(refined, box)
    if not fits.any():
        return "box"
    valid = fits & is_not_empty(refined, SMALLEST_SIDE) & is_inside(refined, region)
    if not valid.any():
        return "border"
    return "suppressed" if (scores[valid] > params.score_threshold).any() else "score"


def _covers(boxes: Float[Tensor, "n 4"], box: Float[Tensor, "1 4"]) -> Bool[Tensor, " n"]:
    """Which boxes are about the object."""
    return torch.ge(box_iou(boxes, box)[:, 0], COVERS)

"""The second stage taken apart on test images: classes of the proposals, boxes before and after the regressor.

Letters: r proposals of an image, k classes with background.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from src.data.prepared import Example
from src.detector.box_head import decode_scaled
from src.detector.mask_rcnn import MaskRCNN
from src.detector.postprocess import postprocess
from src.detector.roi_heads import RoiHeads
from src.evaluation.analysis import SecondStageAnalysis
from src.evaluation.halves import halves
from src.evaluation.last_steps import last_steps
from src.evaluation.predictor import Predictor, to_source
from src.evaluation.rpn_metrics import paired_iou
from src.ops.boxes import clip
from src.ops.matching import IGNORED, match_rois
from src.structures.target import Target

BORDERS: Final = ("remove", "clip")  # the rules for boxes across the border; both are measured


@torch.no_grad()
def analyze(predictor: Predictor[MaskRCNN], example: Example) -> SecondStageAnalysis:
    """Detections under both border rules, and the second stage taken apart."""
    detector, params, letterbox = predictor.detector, predictor.params, example.letterbox
    with predictor.fabric.autocast():
        images = predictor.batcher.images([example])
        region = images.regions[0]
        features = detector.backbone(images.tensors)
        proposals = detector.rpn(images, features)[0].top(params.features.proposals)
        candidates = detector.roi_heads.refine(features, [proposals], images.regions, params.evaluate)[0]
        found = {}
        for border in BORDERS:
            rules = dataclasses.replace(params.evaluate, border=border)
            kept = postprocess(candidates, region, rules)
            found[border] = detector.roi_heads.add_masks(features, [kept])[0].cpu()
        target = example.target.to(predictor.fabric.device)
        matches = match_rois(proposals.boxes, target.boxes, target.crowd, params.rois.fg_iou_thresh)
        half_iou = _halves(detector.roi_heads, features, target, region)
        anchors = torch.cat(detector.rpn.anchors(images.tensors.shape[-2:], [level.shape[-2:] for level in features]))
    objects = (matches >= 0).nonzero().squeeze(1)
    wholes, labels = target.boxes[matches[objects]], target.labels[matches[objects]]
    refined = refine(candidates.deltas[objects], proposals.boxes[objects], labels, region)
    classes = torch.where(matches == IGNORED, -1, torch.zeros_like(matches))
    classes[objects] = labels
    return SecondStageAnalysis(
        name=example.name,
        found={border: to_source(one, letterbox, params.evaluate.mask_threshold) for border, one in found.items()},
        proposals=letterbox.boxes_to_source(proposals.boxes.cpu()),
        truth=classes.cpu(),
        predicted=candidates.logits.argmax(dim=1).cpu(),
        iou_before=paired_iou(proposals.boxes[objects], wholes).cpu(),
        iou_after=paired_iou(refined, wholes).cpu(),
        halves_before=half_iou[0].cpu(),
        halves_after=half_iou[1].cpu(),
        lost_at=tuple(last_steps(target.boxes, target.labels, anchors, candidates, region, params.evaluate)),
    )


def _halves(
    heads: RoiHeads, features: Sequence[Tensor], target: Target, region: Float[Tensor, " 4"]
) -> tuple[Tensor, Tensor]:
    """IoU with the whole of objects cut in half, before and after the regressor (task 15's question)."""
    cut, wholes = halves(target.boxes), target.boxes.repeat_interleave(4, dim=0)
    _, deltas = heads.classify(features, [cut])
    refined = refine(deltas, cut, target.labels.repeat_interleave(4), region)
    return paired_iou(cut, wholes), paired_iou(refined, wholes)


def refine(
    deltas: Float[Tensor, "r four_k"],
    proposals: Float[Tensor, "r 4"],
    labels: Int64[Tensor, " r"],
    region: Float[Tensor, " 4"],
) -> Float[Tensor, "r 4"]:
    """Proposals moved by the regressor of the given classes, clipped to the picture."""
    rows = torch.arange(len(labels), device=labels.device)
    return clip(decode_scaled(deltas, proposals)[rows, labels], region)

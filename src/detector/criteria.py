"""Fine-tuning of backbone, FPN and RPN (tasks 8 and 10), with an auxiliary head that keeps classes in the features.

RPN losses alone ask of the features where things are, not what they are. The later heads train on frozen features,
so a box head, thrown away afterwards, learns here along with the RPN and makes the features carry classes too. Its
RoIs are jittered ground truth and the RPN's own proposals, which bring the clutter that it takes for objects. Gradients
flow only where the losses look (`src.detector.sparse_fpn`); proposals come from a pass without gradients over P4 and
the coarser levels, a twentieth of the cost of one with P2 and P3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.core.params import BackboneParams
from src.data.normalize import Normalization, normalize
from src.data.prepared import Example
from src.detector.backbones import NORMALIZATIONS
from src.detector.box_head import SIZE, BoxHead, encode_scaled
from src.detector.mask_rcnn import BackboneWithFpn
from src.detector.rpn import RegionProposalNetwork
from src.detector.sampling import RoiRules, Sampled, Truth, jitter, sample_anchors, sample_rois
from src.detector.sparse_fpn import Grids, Neighborhoods, anchor_neighborhoods, at_anchors, look, roi_cells
from src.ops.boxes import clip, encode, is_not_empty
from src.ops.losses import class_loss, delta_loss, objectness_loss
from src.ops.matching import MatchThresholds
from src.structures.image_list import ImageList

Content = tuple[float, float, float, float]
JITTERS = (0.05, 0.1, 0.2, 0.4)  # spreads, as shares of a box's sides: from good proposals to background
COPIES = 8  # jittered copies of each ground truth, of every spread
AUXILIARY_WIDTH = 1024  # hidden units of the auxiliary head
PROPOSALS = 100  # of the RPN's, an image
SMALLEST_ROI = 8.0  # canvas pixels


class Learner(nn.Module):
    """What trains together: backbone and FPN, RPN, and the auxiliary box head."""

    def __init__(self, backbone: BackboneWithFpn, rpn: RegionProposalNetwork) -> None:
        super().__init__()
        self.backbone, self.rpn, self.auxiliary = backbone, rpn, BoxHead(hidden=AUXILIARY_WIDTH)


@dataclass(frozen=True)
class ImageTargets:
    """One image's samples: anchors with their truth, RoIs with theirs."""

    anchors: Sampled
    anchor_deltas: Tensor
    rois: Tensor
    roi_positives: int
    roi_labels: Tensor
    roi_deltas: Tensor


def truth_of(example: Example, device: torch.device) -> Truth:
    """Ground truth on the device, crowd regions apart."""
    crowd = example.crowd
    boxes, labels = example.boxes[~crowd], example.labels[~crowd]
    return Truth(boxes.to(device), labels.to(device), example.boxes[crowd].to(device))


def image_list(
    examples: Sequence[Example], normalization: Normalization, content: Content, device: torch.device
) -> ImageList:
    """The normalized minibatch, channels last."""
    pictures = torch.stack([example.image for example in examples]).to(device)
    contents = torch.tensor([content] * len(examples), device=device)
    tensors = normalize(pictures, normalization, contents)
    return ImageList(tensors.contiguous(memory_format=torch.channels_last), contents)


def losses(
    learner: Learner, examples: Sequence[Example], content: Content, params: BackboneParams
) -> Mapping[str, Tensor]:
    """RPN losses and the auxiliary head's, each a mean over the images. Call under autocast for mixed precision."""
    device = next(learner.parameters()).device
    images = image_list(examples, NORMALIZATIONS[params.name], content, device)
    merged = learner.backbone.merged(images.tensors)
    grids = Grids.of(merged)
    anchors = torch.cat(learner.rpn.anchors(images.tensors.shape[-2:], grids.with_pooled()))
    proposals = coarse_proposals(learner, images, merged) if params.rois else [anchors[:0]] * len(examples)
    targets = [
        image_targets((anchors, proposed), truth_of(example, device), content, params)
        for example, proposed in zip(examples, proposals, strict=True)
    ]
    taps = [
        anchor_neighborhoods(grids, number, image.anchors.indices, len(params.anchor_ratios))
        for number, image in enumerate(targets)
    ]
    boxes = torch.cat([nn.functional.pad(image.rois, (1, 0), value=number) for number, image in enumerate(targets)])
    features, cells = look(learner.backbone.fpn, merged, _join(taps), roi_cells(grids, boxes, SIZE))
    logits, deltas = at_anchors(learner.rpn.head, features, _join(taps))
    terms = _rpn_terms(logits, deltas, targets)
    if len(boxes):
        pooled = cells.unflatten(0, (len(boxes), SIZE * SIZE)).transpose(1, 2).unflatten(2, (SIZE, SIZE))
        class_logits, refinements = learner.auxiliary(pooled)
        terms |= _auxiliary_terms(class_logits, refinements, targets)
    return terms


@torch.no_grad()
def coarse_proposals(learner: Learner, images: ImageList, merged: Sequence[Tensor]) -> list[Tensor]:
    """The RPN's best boxes of each image from P4 and the coarser levels."""
    features = learner.backbone.fpn.outputs(merged, finest=2)
    return [found.best(PROPOSALS).boxes for found in learner.rpn(images, features)]


@torch.no_grad()
def image_targets(
    candidates: tuple[Tensor, Tensor], truth: Truth, content: Content, params: BackboneParams
) -> ImageTargets:
    """Samples anchors and RoIs of one image, from torch's global generator, and encodes what they are to learn.

    Args:
        candidates: all anchors, and proposals.
        truth: the ground truth.
        content: the picture on the canvas.
        params: thresholds and counts.
    """
    draw = torch.default_generator
    anchors, proposals = candidates
    thresholds = MatchThresholds(params.fg_iou_thresh, params.bg_iou_thresh)
    sampled = sample_anchors(anchors, truth, thresholds, params.samples, draw)
    positive_anchors = anchors[sampled.indices[: sampled.positives]]
    boxes = roi_candidates(proposals, truth, content)
    chosen = sample_rois(boxes, truth, RoiRules(params.rois, 0.25, 0.5), draw)
    rois = boxes[chosen.indices]
    labels = torch.zeros(len(rois), dtype=torch.int64, device=rois.device)
    labels[: chosen.positives] = truth.labels[chosen.truth]
    return ImageTargets(
        anchors=sampled,
        anchor_deltas=encode(truth.boxes[sampled.truth], positive_anchors),
        rois=rois,
        roi_positives=chosen.positives,
        roi_labels=labels,
        roi_deltas=encode_scaled(truth.boxes[chosen.truth], rois[: chosen.positives]),
    )


def roi_candidates(proposals: Tensor, truth: Truth, content: Content) -> Tensor:
    """Jittered copies of the ground truth and the proposals, clipped to the picture."""
    copies = truth.boxes.repeat(COPIES, 1)
    near = [jitter(copies, spread, torch.default_generator) for spread in JITTERS]
    boxes = clip(torch.cat([*near, proposals]), content)
    return boxes[is_not_empty(boxes, SMALLEST_ROI)]


def _rpn_terms(logits: Tensor, deltas: Tensor, targets: Sequence[ImageTargets]) -> dict[str, Tensor]:
    """Objectness and regression of the sampled anchors, images one after another."""
    counts = [len(image.anchors.indices) for image in targets]
    objectness, regression = [], []
    for image_logits, image_deltas, image in zip(logits.split(counts), deltas.split(counts), targets, strict=True):
        positives = image.anchors.positives
        objectness.append(objectness_loss(image_logits, positives))
        regression.append(delta_loss(image_deltas[:positives], image.anchor_deltas, len(image_logits)))
    return {"objectness": torch.stack(objectness).mean(), "regression": torch.stack(regression).mean()}


def _auxiliary_terms(logits: Tensor, deltas: Tensor, targets: Sequence[ImageTargets]) -> dict[str, Tensor]:
    """Classes and refinements of the sampled RoIs, images one after another."""
    labels = torch.cat([image.roi_labels for image in targets])
    foreground = labels.nonzero().squeeze(1)
    chosen = deltas.unflatten(1, (-1, 4))[foreground, labels[foreground]]
    goals = torch.cat([image.roi_deltas for image in targets])
    return {"classification": class_loss(logits, labels), "refinement": delta_loss(chosen, goals, len(labels))}


def _join(taps: Sequence[Neighborhoods]) -> Neighborhoods:
    """The taps of all images."""
    return Neighborhoods(
        torch.cat([image.rows for image in taps]),
        torch.cat([image.inside for image in taps]),
        torch.cat([image.places for image in taps]),
    )

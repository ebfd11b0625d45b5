"""A small detector that learns, and its losses the slow way: on dense feature maps, drawn step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from src.core.params import Params, RoisParams
from src.data.batches import Batcher
from src.data.prepared import Example
from src.detector import box_head, mask_head
from src.detector.backbones import LITE
from src.detector.box_head import BoxHead
from src.detector.fpn import STRIDES
from src.detector.mask_head import MaskHead
from src.detector.mask_rcnn import PROPOSALS, MaskRCNN, Samples
from src.detector.roi_heads import RoiHeads
from src.detector.sampling import AnchorRules, LossRules, RoiRules, roi_candidates, sample_anchors, sample_rois
from src.detector.weights import build
from src.ops.losses import class_loss, delta_loss, mask_loss, objectness_loss
from src.ops.masks import mask_targets
from src.ops.roi_align import multiscale_roi_align
from src.sources.assignment import CLASSES
from tests.detector.small import CPU, TORCHVISION_PROPOSALS, backbone_params, params, randomize

REGION = (16.0, 0.0, 144.0, 96.0)  # of the factories' small canvas
GRIDS = [(24, 40), (12, 20), (6, 10), (3, 5), (2, 3)]
BACKBONE = backbone_params(
    name="efficientnet_lite0", weights="imagenet", rpn_batch_size_per_image=24, box_batch_size_per_image=12
)
PARAMS = params(backbone=BACKBONE, proposals=TORCHVISION_PROPOSALS, rois=RoisParams(0.5, 0.25))
RPN_TERMS = ["objectness", "rpn_regression"]
TERMS = [*RPN_TERMS, "classification", "box_regression", "mask"]
BATCH = Batcher(LITE, CPU)


def joint_params(**changes: Any) -> Params:
    """The same with other values in the section `joint`."""
    return dataclasses.replace(PARAMS, joint=dataclasses.replace(PARAMS.joint, **changes))


def small_detector(settings: Params = PARAMS, rules: LossRules | None = None) -> MaskRCNN:
    """A pretrained body, and narrow heads without a weight or bias of 0."""
    torch.manual_seed(0)
    heads = RoiHeads(BoxHead(CLASSES.count, representation_size=32), MaskHead(CLASSES.count, channels=8))
    net = MaskRCNN(*build(BACKBONE, TORCHVISION_PROPOSALS), heads, settings, rules)
    randomize(net.rpn.parameters(), 1, 0.02)
    randomize(heads.box_head.parameters(), 2, 0.02)
    randomize(heads.mask_head.parameters(), 3, 0.05)
    return net


def in_joint_training(detector: MaskRCNN, **changes: Any) -> MaskRCNN:
    """The same networks under the rules of joint training, with other values in the section `joint`."""
    settings = joint_params(**changes)
    rules = LossRules.for_joint_training(settings)
    return MaskRCNN(detector.backbone, detector.rpn, detector.roi_heads, settings, rules)


def losses(detector: MaskRCNN, examples: Sequence[Example], seed: int = 3) -> dict[str, Tensor]:
    """What the detector loses on these pictures with the draws of a seed."""
    torch.manual_seed(seed)
    return detector.losses(*BATCH(examples))


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """All terms together, unweighted."""
    return torch.stack(list(terms.values())).sum()


@torch.no_grad()
def draw_densely(
    detector: MaskRCNN, examples: Sequence[Example], seed: int = 3, proposals: int = PROPOSALS, *, joint: bool = False
) -> list[Samples]:
    """What `losses` is to draw with this seed: anchors, RoIs, masks, one image after another."""
    torch.manual_seed(seed)
    images, targets = BATCH(examples)
    settings, draw = detector.params, torch.default_generator
    section = settings.joint
    # Fine-tuning has a count of its own, all masks, and proposals from P4 on.
    count = section.box_batch_size_per_image if joint else settings.backbone.box_batch_size_per_image
    limit = section.mask_batch_size_per_image if joint else count
    finest = section.finest_level if joint else 4
    anchors = torch.cat(detector.rpn.anchors((96, 160), GRIDS))
    proposed = detector.rpn(images, detector.backbone(images.tensors)[finest - 2 :])
    samples = []
    for target, region, found in zip(targets, images.regions, proposed, strict=True):
        some = sample_anchors(anchors, target, AnchorRules.from_params(settings.backbone), draw)
        candidates = roi_candidates(found.boxes[:proposals], target, region, draw)
        rois = sample_rois(candidates, target, RoiRules.from_params(settings.rois, count), draw)
        masks = torch.arange(len(rois.truth))
        if len(masks) > limit:
            masks = torch.randperm(len(masks), generator=draw)[:limit].sort().values
        samples.append(Samples(some, rois, masks, draw))
    return samples


def dense_losses(detector: MaskRCNN, examples: Sequence[Example], samples: Sequence[Samples]) -> dict[str, Tensor]:
    """The losses of these samples from dense feature maps."""
    images, targets = BATCH(examples)
    levels = detector.backbone(images.tensors)
    logits, deltas = detector.rpn.predict(levels)
    objectness, regression = [], []
    for i, image in enumerate(samples):
        chosen, positives = image.anchors.indices, image.anchors.positives
        objectness.append(objectness_loss(logits[i, chosen], positives))
        regression.append(delta_loss(deltas[i, chosen[:positives]], image.anchors.deltas, len(chosen)))
    rois = [image.rois for image in samples]
    labels = torch.cat([image.labels for image in rois])
    rows = labels.nonzero().squeeze(1)
    heads = detector.roi_heads
    class_logits, class_deltas = heads.box_head(pool_densely(levels, [image.boxes for image in rois], box_head.SIZE))
    own_deltas = class_deltas.reshape(len(labels), -1, 4)[rows, labels[rows]]
    terms = {
        "objectness": torch.stack(objectness).mean(),
        "rpn_regression": torch.stack(regression).mean(),
        "classification": class_loss(class_logits, labels),
        "box_regression": delta_loss(own_deltas, torch.cat([image.deltas for image in rois]), len(labels)),
    }
    if heads.mask_head is None:
        return terms
    boxes = [image.rois.boxes[image.masks] for image in samples]
    masks = heads.mask_head(pool_densely(levels, boxes, mask_head.SIZE))
    classes = torch.cat([image.labels[one.masks] for image, one in zip(rois, samples, strict=True)])
    own_masks = torch.stack([mask[label] for mask, label in zip(masks, classes, strict=True)])
    wanted = [
        mask_targets(target.masks, some, image.rois.truth[image.masks], 28)
        for target, some, image in zip(targets, boxes, samples, strict=True)
    ]
    return terms | {"mask": mask_loss(own_masks, torch.cat(wanted))}


def pool_densely(levels: Sequence[Tensor], boxes: Sequence[Tensor], size: int) -> Tensor:
    """RoIAlign of each image's boxes on dense maps."""
    rois = torch.cat([torch.nn.functional.pad(image, (1, 0), value=i) for i, image in enumerate(boxes)])
    return multiscale_roi_align(levels[:4], rois, size, STRIDES)

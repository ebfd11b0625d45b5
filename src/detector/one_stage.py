"""A one-stage detector on the same backbone and FPN: the rival of task 13 (RetinaNet; Lin et al., ICCV 2017).

A dense head says of each anchor of the pyramid which class it holds and how it has to move, without proposals and
without RoIAlign. Nothing is sampled: all anchors learn, and the focal loss keeps the many easy ones from drowning the
few that matter. It finds boxes only. Everything is in canvas coordinates.

Letters: B images, N anchors of all levels, K classes without background.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.core.one_stage_params import OneStageParams
from src.core.params import Params
from src.detector.backbones import set_trainable_layers
from src.detector.dense_head import DenseHead
from src.detector.mask_rcnn import FINEST, BackboneWithFpn
from src.detector.postprocess import select, without_masks
from src.ops.anchors import pyramid_anchors
from src.ops.boxes import decode, encode
from src.ops.losses import dense_delta_loss, focal_loss
from src.ops.matching import EVERYWHERE, IGNORED, MatchThresholds, label_anchors
from src.structures.detections import Detections
from src.structures.image_list import ImageList
from src.structures.loss_term import LossTerm, values
from src.structures.target import Target

CANDIDATES = 1000  # best pairs of anchor and class that each level passes on to NMS (RetinaNet, section 4.1)


class OneStageDetector(nn.Module):
    """Backbone, FPN and a dense head.

    Args:
        backbone: body and FPN.
        classes: without background.
        params: it reads the sections `one_stage` and `evaluate`, and of `backbone` the anchors.
    """

    def __init__(self, backbone: BackboneWithFpn, classes: int, params: Params) -> None:
        super().__init__()
        options = params.one_stage
        anchors = len(params.backbone.anchor_ratios) * len(options.anchor_scales)
        self.backbone, self.params = backbone, params
        self.head = DenseHead(anchors, classes, channels=options.channels, convolutions=options.convolutions)

    def prepare_to_learn(self) -> None:
        """Has the head learn, and of the backbone what the settings say; the rest stands still."""
        options = self.params.one_stage
        self.head.requires_grad_(True)
        self.backbone.requires_grad_(False)
        self.backbone.fpn.requires_grad_(options.train_fpn)
        set_trainable_layers(self.backbone.body, options.trainable_layers)

    def losses(self, images: ImageList, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Raw loss terms of a minibatch, by name."""
        return values(self(images, targets))

    def forward(self, images: ImageList, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """`classification` and `box_regression`, means over the images; call under autocast for mixed precision.

        Each image's sums are divided by its own positive anchors, as torchvision does; nothing is drawn at random.

        Args:
            images: the minibatch.
            targets: ground truth of each image.
        """
        levels = self.backbone.levels_from(images.tensors, self.params.one_stage.finest_level)
        logits, deltas = (torch.cat(parts, dim=1) for parts in self.head(levels))
        anchors = torch.cat(self.anchors(images.tensors, levels))
        pairs = [
            image_losses(image_logits, image_deltas, anchors, target, self.params.one_stage)
            for image_logits, image_deltas, target in zip(logits, deltas, targets, strict=True)
        ]
        names = ("classification", "box_regression")
        columns = zip(*pairs, strict=True)
        return {
            name: LossTerm(torch.stack(column).mean(), len(pairs)) for name, column in zip(names, columns, strict=True)
        }

    @torch.no_grad()
    def detect(self, images: ImageList) -> list[Detections]:
        """Detections of each image, without masks; `proposals` are the anchors that they were decoded from."""
        levels = self.backbone.levels_from(images.tensors, self.params.one_stage.finest_level)
        logits, deltas = self.head(levels)
        anchors = self.anchors(images.tensors, levels)
        return [
            self._choose([one[image] for one in logits], [one[image] for one in deltas], anchors, region)
            for image, region in enumerate(images.regions)
        ]

    def anchors(self, canvas: Float[Tensor, "b 3 h w"], levels: Sequence[Tensor]) -> list[Float[Tensor, "_ 4"]]:
        """Anchors of each level on the canvas, in the order of the head's outputs."""
        options, backbone = self.params.one_stage, self.params.backbone
        height, width = canvas.shape[-2:]
        grids = tuple((level.shape[2], level.shape[3]) for level in levels)
        sizes = backbone.anchor_sizes[options.finest_level - FINEST :]
        anchors = pyramid_anchors(sizes, backbone.anchor_ratios, (height, width), grids, options.anchor_scales)
        return [level.to(canvas.device) for level in anchors]

    def _choose(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Sequence[Tensor], region: Tensor
    ) -> Detections:
        """The best pairs of anchor and class of each level, decoded; then NMS over all levels."""
        boxes, labels, scores, origins = [], [], [], []
        for level_logits, level_deltas, level_anchors in zip(logits, deltas, anchors, strict=True):
            probabilities = level_logits.sigmoid().flatten()  # [N * K]
            above = (probabilities > self.params.evaluate.score_threshold).nonzero().squeeze(1)
            best = probabilities[above].topk(min(CANDIDATES, len(above)))
            rows, classes = above[best.indices] // self.head.classes, above[best.indices] % self.head.classes
            boxes.append(decode(level_deltas[rows], level_anchors[rows]))
            labels.append(classes + 1)
            scores.append(best.values)
            origins.append(level_anchors[rows])
        found = without_masks(*(torch.cat(parts) for parts in (boxes, labels, scores, origins)))
        return select(found, region, self.params.evaluate)


def image_losses(
    logits: Float[Tensor, "n k"],
    deltas: Float[Tensor, "n 4"],
    anchors: Float[Tensor, "n 4"],
    target: Target,
    options: OneStageParams,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Focal loss of the classes and L1 of the deltas of one image, both over its positive anchors.

    Each object has its best anchors and those that overlap it enough; anchors that are neither object nor background,
    or that lie mostly in a crowd region, are left out. In an image without objects all are background.
    """
    thresholds = MatchThresholds(options.fg_iou_thresh, options.bg_iou_thresh)
    matches = label_anchors(anchors, target.boxes, EVERYWHERE, thresholds, target.crowd)
    positive = (matches >= 0).nonzero().squeeze(1)
    truth = matches[positive]
    classes = torch.zeros_like(logits, dtype=torch.float32)
    classes[positive, target.labels[truth] - 1] = 1
    counted = matches != IGNORED
    classification = focal_loss(
        logits[counted], classes[counted], options.focal_alpha, options.focal_gamma, len(positive)
    )
    return classification, dense_delta_loss(deltas[positive], encode(target.boxes[truth], anchors[positive]))

"""The detector's raw loss terms (tasks 7, 14 and 16), the same for cached features and for the live network.

| term | meaning |
| --- | --- |
| objectness | binary cross entropy of the sampled anchors |
| rpn_regression | smooth L1 of the positive anchors' deltas |
| classification | cross entropy of the sampled RoIs, background included |
| box_regression | smooth L1 of the positive RoIs' deltas, of their true class |
| mask | binary cross entropy of the positive RoIs' masks, of their true class |

Each is a mean over what was sampled, so that weights compare; whoever trains weighs them. A `LossTerm` says how many
those were, for whoever trains on a part of a minibatch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from src.detector.box_head import BoxHead, Draws
from src.detector.mask_head import MaskHead, select_class_masks
from src.detector.sampling import AnchorSamples
from src.ops.losses import class_loss, delta_loss, mask_loss, objectness_loss
from src.structures.loss_term import LossTerm


@dataclass(frozen=True)
class RoiBatch:
    """RoIs of a few images with their pooled features and what they are to learn.

    Attributes:
        pooled: features of the sampled RoIs.
        labels: 0 for background, else the class.
        deltas: scaled deltas of the RoIs with a class, in their order.
        mask_pooled: features of positive RoIs; none where the mask head is not trained.
        mask_labels: their classes.
        mask_targets: their objects' masks, 0 or 1.
        draws: of each image, what the box head's dropout comes from; none: torch's global generator.
    """

    pooled: Float[Tensor, "r c p p"]
    labels: Int64[Tensor, " r"]
    deltas: Float[Tensor, "n 4"]
    mask_pooled: Float[Tensor, "m c q q"]
    mask_labels: Int64[Tensor, " m"]
    mask_targets: Float[Tensor, "m s s"]
    draws: Sequence[Draws] = ()

    def like(self, weight: Tensor) -> RoiBatch:
        """The same on a weight's device, features in its dtype: a cache holds them in bf16."""
        return RoiBatch(
            self.pooled.to(weight),
            self.labels.to(weight.device),
            self.deltas.to(weight.device),
            self.mask_pooled.to(weight),
            self.mask_labels.to(weight.device),
            self.mask_targets.to(weight.device),
            self.draws,
        )


def rpn_losses(
    logits: Float[Tensor, " n"], deltas: Float[Tensor, "n 4"], samples: Sequence[AnchorSamples]
) -> dict[str, LossTerm]:
    """`objectness` and `rpn_regression` of the sampled anchors, images one after another; a mean over the images."""
    counts = [len(image.indices) for image in samples]
    objectness, regression = [], []
    for image_logits, image_deltas, image in zip(logits.split(counts), deltas.split(counts), samples, strict=True):
        objectness.append(objectness_loss(image_logits, image.positives))
        regression.append(delta_loss(image_deltas[: image.positives], image.deltas, len(image_logits)))
    terms = {"objectness": objectness, "rpn_regression": regression}
    return {name: LossTerm(torch.stack(parts).mean(), len(samples)) for name, parts in terms.items()}


def box_losses(head: BoxHead, batch: RoiBatch) -> dict[str, LossTerm]:
    """`classification` and `box_regression`, both means over all sampled RoIs."""
    logits, deltas = head(batch.pooled, batch.draws)
    foreground = batch.labels.nonzero().squeeze(1)
    chosen = deltas.unflatten(1, (-1, 4))[foreground, batch.labels[foreground]]  # the deltas of the true class
    count = len(batch.labels)
    return {
        "classification": LossTerm(class_loss(logits, batch.labels), count),
        "box_regression": LossTerm(delta_loss(chosen, batch.deltas, count), count),
    }


def mask_losses(head: MaskHead, batch: RoiBatch) -> dict[str, LossTerm]:
    """`mask`: the mask of each positive RoI's true class against its target."""
    masks = select_class_masks(head(batch.mask_pooled), batch.mask_labels)
    return {"mask": LossTerm(mask_loss(masks, batch.mask_targets), len(masks))}

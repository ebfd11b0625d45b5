"""Training of the box head (task 14) and of box and mask head together (task 16) on cached features.

The backbone is frozen, so what the heads see of an image never changes: proposals and pooled features are read from
`data/features.h5`. Ground truth is matched to the proposals anew each time, so it cannot go stale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from src.core.params import BoxHeadParams, MaskHeadParams
from src.core.runtime import generator
from src.data.feature_cache import FeaturesFile
from src.data.loading import read_ahead
from src.data.prepared import PreparedFile
from src.detector.box_head import BoxHead, encode_scaled
from src.detector.mask_head import MaskHead, select_class_masks
from src.detector.sampling import RoiRules, Truth, draw_rois, match_rois
from src.ops.losses import class_loss, delta_loss, mask_loss

FEATURES = Path("data/features.h5")
PREPARED = Path("data/prepared.h5")
AHEAD = 3  # minibatches
TRUTH_COLUMNS = ("boxes", "labels", "crowd")


@dataclass(frozen=True)
class HeadBatch:
    """RoIs of a few images.

    Attributes:
        names: the images.
        pooled: P = 7 features of the sampled RoIs.
        labels: 0 for background, else the class.
        deltas: scaled deltas of the RoIs with a class, in their order.
        mask_pooled: P = 14 features of positive RoIs; none where the mask head is not trained.
        mask_labels: their classes.
        mask_targets: their objects' masks, 0 or 1.
    """

    names: list[str]
    pooled: Float[Tensor, "r c 7 7"]
    labels: Int64[Tensor, " r"]
    deltas: Float[Tensor, "p 4"]
    mask_pooled: Float[Tensor, "m c 14 14"]
    mask_labels: Int64[Tensor, " m"]
    mask_targets: Float[Tensor, "m 28 28"]


@dataclass(frozen=True)
class HeadLoader:
    """Draws minibatches of RoIs from the cached features.

    Attributes:
        features: the cached features.
        prepared: the ground truth.
        views: numbers of the views to draw from.
        batch_size: views a minibatch.
        rules: the box head's sampling.
        mask_rois: positive RoIs a view for the mask head; 0 reads none.
        seed: of order and sampling.
    """

    features: Path
    prepared: Path
    views: Sequence[int]
    batch_size: int
    rules: RoiRules
    mask_rois: int
    seed: int

    def __len__(self) -> int:
        """Minibatches a pass."""
        return math.ceil(len(self.views) / self.batch_size)

    def batches(self, epoch: int) -> Iterator[HeadBatch]:
        """One pass over the views; the same epoch always gives the same minibatches."""
        order = torch.randperm(len(self.views), generator=generator(self.seed, epoch)).tolist()
        numbers = [self.views[place] for place in order]
        parts = [numbers[first : first + self.batch_size] for first in range(0, len(numbers), self.batch_size)]
        features, prepared = FeaturesFile(self.features), PreparedFile(self.prepared)
        try:
            yield from read_ahead(parts, lambda part: self._batch(features, prepared, epoch, part), AHEAD)
        finally:
            features.close()
            prepared.close()

    def _batch(self, features: FeaturesFile, prepared: PreparedFile, epoch: int, views: list[int]) -> HeadBatch:
        parts = [self._view(features, prepared, epoch, view) for view in views]
        fields = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        names = [prepared.names[features.image(view)[0]] for view in views]
        return HeadBatch(names=names, **fields)

    def _view(self, features: FeaturesFile, prepared: PreparedFile, epoch: int, view: int) -> dict[str, Tensor]:
        index, flipped = features.image(view)
        truth = read_truth(prepared, index, flipped)
        draw = generator(self.seed, epoch, view)
        boxes, pooled = features.boxes(view)
        sampled = draw_rois(match_rois(boxes, truth, self.rules.fg_iou_thresh), self.rules, draw)
        labels = torch.zeros(len(sampled.indices), dtype=torch.int64)
        labels[: sampled.positives] = truth.labels[sampled.truth]
        goals = encode_scaled(truth.boxes[sampled.truth], boxes[sampled.indices[: sampled.positives]])
        found = {"pooled": pooled[sampled.indices], "labels": labels, "deltas": goals}
        return found | self._mask_part(features, view, draw)

    def _mask_part(self, features: FeaturesFile, view: int, draw: torch.Generator) -> dict[str, Tensor]:
        rois = features.mask_rois(view, limit=None if self.mask_rois else 0)
        chosen = torch.randperm(len(rois["mask_labels"]), generator=draw)[: self.mask_rois]
        return {
            "mask_pooled": rois["mask_pooled"][chosen],
            "mask_labels": rois["mask_labels"][chosen],
            "mask_targets": rois["mask_targets"][chosen].float(),
        }


def loaders(
    box: BoxHeadParams, options: BoxHeadParams | MaskHeadParams, mask_rois: int
) -> tuple[HeadLoader, HeadLoader]:
    """Training and test views; RoIs are sampled by the box head's rules in both trainings."""
    rules = RoiRules(box.rois, box.positive_fraction, box.fg_iou_thresh)
    features = FeaturesFile(FEATURES)
    train, test = (
        HeadLoader(FEATURES, PREPARED, features.views(split), options.batch_size, rules, mask_rois, options.seed)
        for split in (True, False)
    )
    features.close()
    return train, test


def read_truth(prepared: PreparedFile, index: int, flipped: bool) -> Truth:
    """Ground truth boxes of an image, mirrored if its view is."""
    boxes, labels, crowd = (torch.tensor(getattr(prepared, name)(index)) for name in TRUTH_COLUMNS)
    if flipped:
        left, _, right, _ = prepared.frame.content
        boxes = torch.stack([left + right - boxes[:, 2], boxes[:, 1], left + right - boxes[:, 0], boxes[:, 3]], dim=1)
    return Truth(boxes[~crowd], labels[~crowd], boxes[crowd])


class Heads(nn.Module):
    """Box head and mask head, trained together."""

    def __init__(self, box_head: BoxHead, mask_head: MaskHead) -> None:
        super().__init__()
        self.box_head, self.mask_head = box_head, mask_head


def box_losses(head: BoxHead, batch: HeadBatch) -> Mapping[str, Tensor]:
    """Cross entropy and smooth L1 of the sampled RoIs, both means over all of them."""
    device = head.fc6.weight.device
    logits, deltas = head(batch.pooled.to(head.fc6.weight))  # bf16 in the cache, whatever the run's precision
    labels = batch.labels.to(device)
    objects = labels.nonzero().squeeze(1)
    chosen = deltas.unflatten(1, (-1, 4))[objects, labels[objects]]  # the deltas of the true class
    return {
        "classification": class_loss(logits, labels),
        "regression": delta_loss(chosen, batch.deltas.to(device), len(labels)),
    }


def joint_losses(heads: Heads, batch: HeadBatch) -> Mapping[str, Tensor]:
    """The box head's two losses, and the mask of the true class against its target."""
    weight = heads.mask_head.mask_fcn1.weight
    masks = heads.mask_head(batch.mask_pooled.to(weight))
    loss = mask_loss(
        select_class_masks(masks, batch.mask_labels.to(weight.device)), batch.mask_targets.to(weight.device)
    )
    return {**box_losses(heads.box_head, batch), "mask": loss}

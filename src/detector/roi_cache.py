"""Cached features as a supplier of RoI batches (tasks 10, 12, 14 and 16).

While the backbone is frozen, what the heads see of an image never changes: `cache_view` keeps proposals and pooled
features of each image once, `CachedRois` draws minibatches from them. Ground truth is matched to the proposals anew
each time, so it cannot go stale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from src.core.params import FeaturesParams
from src.core.processes import WHOLE, Share
from src.core.runtime import generator
from src.data.feature_cache import MASK_SIZE, CachedView, FeaturesFile
from src.data.loading import minibatches, read_ahead
from src.data.prepared import Example, PreparedFile, flip_boxes
from src.detector import box_head, mask_head
from src.detector.box_head import Draws
from src.detector.criteria import RoiBatch
from src.detector.roi_heads import pool
from src.detector.sampling import RoiRules, sample_rois
from src.ops.masks import mask_targets
from src.ops.matching import match_rois

AHEAD = 3  # minibatches


@dataclass(frozen=True)
class ViewType:
    """Which view of an image it is."""

    flipped: bool
    train: bool


def cache_view(
    features: Sequence[Tensor],
    proposals: Float[Tensor, "r 4"],
    example: Example,
    view: ViewType,
    *,
    params: FeaturesParams,
    fg_iou_thresh: float,
) -> CachedView:
    """Pools what the heads need of one image.

    In training the ground truth boxes join the proposals, so that every object has a RoI from the first step.

    Args:
        features: P2..P5 of this image alone.
        proposals: the RPN's best, on the canvas.
        example: the image, with its masks, mirrored if the view is.
        view: mirrored or not, training or test.
        params: how many RoIs.
        fg_iou_thresh: IoU from which a RoI is an object, and has a mask.
    """
    target = example.target
    boxes = proposals[: params.proposals].cpu()
    boxes = torch.cat([boxes, target.boxes]) if view.train else boxes
    matches = match_rois(boxes, target.boxes, target.crowd, fg_iou_thresh)
    order = (matches >= 0).nonzero().squeeze(1).flip(0)  # ground truth first
    draw = generator(example.index, int(view.flipped))
    rest = order[len(target.boxes) :] if view.train else order
    order = torch.cat([order[: len(order) - len(rest)], rest[torch.randperm(len(rest), generator=draw)]])
    chosen = order[: params.mask_rois]
    device = features[0].device
    return CachedView(
        index=example.index,
        flipped=view.flipped,
        train=view.train,
        boxes=boxes,
        pooled=pool(features, [boxes.to(device)], box_head.SIZE).to(torch.bfloat16).cpu(),
        mask_boxes=boxes[chosen],
        mask_labels=target.labels[matches[chosen]],
        mask_truth=matches[chosen],
        mask_pooled=pool(features, [boxes[chosen].to(device)], mask_head.SIZE).to(torch.bfloat16).cpu(),
        mask_targets=mask_targets(target.masks, boxes[chosen], matches[chosen], MASK_SIZE).bool(),
    )


@dataclass(frozen=True)
class CachedBatch:
    """RoIs of a few images, and the images' names; a spare is one that another process learns from."""

    names: list[str]
    rois: RoiBatch
    is_spare: bool = False


@dataclass(frozen=True)
class CachedRois:
    """Draws minibatches of RoIs from the cached features.

    Attributes:
        features: the cached features.
        prepared: the ground truth.
        views: numbers of the views to draw from.
        batch_size: views per minibatch.
        rules: the box head's sampling.
        mask_rois: positive RoIs per view for the mask head; 0 reads none.
        seed: of order and sampling.
        share: what this process takes of each minibatch.
    """

    features: Path
    prepared: Path
    views: Sequence[int]
    batch_size: int
    rules: RoiRules
    mask_rois: int
    seed: int
    share: Share = WHOLE

    def __len__(self) -> int:
        """Minibatches per epoch."""
        return math.ceil(len(self.views) / self.batch_size)

    def batches(self, epoch: int) -> Iterator[CachedBatch]:
        """All views once; the same epoch always gives the same minibatches."""
        order = torch.randperm(len(self.views), generator=generator(self.seed, epoch)).tolist()
        numbers = [self.views[place] for place in order]
        parts = minibatches(numbers, self.batch_size, self.share)
        features, prepared = FeaturesFile(self.features), PreparedFile(self.prepared)
        try:
            yield from read_ahead(parts, lambda part: self._batch(features, prepared, epoch, *part), AHEAD)
        finally:
            features.close()
            prepared.close()

    def _batch(
        self, features: FeaturesFile, prepared: PreparedFile, epoch: int, views: Sequence[int], is_spare: bool
    ) -> CachedBatch:
        generators = [generator(self.seed, epoch, view) for view in views]
        parts = [self._view(features, prepared, view, draw) for view, draw in zip(views, generators, strict=True)]
        fields = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        draws = [Draws(len(part["labels"]), draw) for part, draw in zip(parts, generators, strict=True)]
        names = [prepared.names[features.image(view)[0]] for view in views]
        return CachedBatch(names, RoiBatch(**fields, draws=draws), is_spare)

    def _view(
        self, features: FeaturesFile, prepared: PreparedFile, view: int, draw: torch.Generator
    ) -> dict[str, Tensor]:
        index, flipped = features.image(view)
        target = prepared.target(index, masks=False)
        target = flip_boxes(target, prepared.letterbox(index)) if flipped else target
        boxes, pooled = features.boxes(view)
        drawn = sample_rois(boxes, target, self.rules, draw)
        found = {"pooled": pooled[drawn.indices], "labels": drawn.labels, "deltas": drawn.deltas}
        return found | self._mask_part(features, view, draw)

    def _mask_part(self, features: FeaturesFile, view: int, draw: torch.Generator) -> dict[str, Tensor]:
        rois = features.mask_rois(view, limit=None if self.mask_rois else 0)
        chosen = torch.randperm(len(rois["mask_labels"]), generator=draw)[: self.mask_rois]
        return {
            "mask_pooled": rois["mask_pooled"][chosen],
            "mask_labels": rois["mask_labels"][chosen],
            "mask_targets": rois["mask_targets"][chosen].float(),
        }


def open_cached_rois(
    features: Path, prepared: Path, *, rules: RoiRules, batch_size: int, mask_rois: int, seed: int, share: Share = WHOLE
) -> tuple[CachedRois, CachedRois]:
    """The training views and the test views of a file of cached features."""
    file = FeaturesFile(features)
    train, test = (
        CachedRois(features, prepared, file.views(split), batch_size, rules, mask_rois, seed, share)
        for split in (True, False)
    )
    file.close()
    return train, test

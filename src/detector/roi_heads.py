"""Box head and mask head on pooled RoIs: what they lose, and what they detect (tasks 14 to 16)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.core.params import EvaluateParams
from src.detector import box_head, mask_head
from src.detector.box_head import BoxHead
from src.detector.criteria import RoiBatch, box_losses, mask_losses
from src.detector.fpn import STRIDES
from src.detector.mask_head import MaskHead, select_class_masks
from src.detector.postprocess import Candidates, postprocess
from src.ops.boxes import clip
from src.ops.roi_align import multiscale_roi_align
from src.structures.detections import Detections
from src.structures.loss_term import LossTerm, values
from src.structures.proposals import Proposals


class RoiHeads(nn.Module):
    """The second stage.

    Args:
        box_head: classifier and regressor.
        mask_head: one mask per class; None where only boxes are trained.
    """

    def __init__(self, box_head: BoxHead, mask_head: MaskHead | None = None) -> None:
        super().__init__()
        self.box_head, self.mask_head = box_head, mask_head

    def train(self, mode: bool = True) -> RoiHeads:
        """As for any module, but heads that do not learn stay as they are in evaluation: without dropout."""
        learns = any(parameter.requires_grad for parameter in self.parameters())
        return super().train(mode and learns)

    def forward(self, batch: RoiBatch) -> dict[str, LossTerm]:
        """`loss_terms` of a batch from anywhere: it is moved to the heads' device and precision first."""
        return self.loss_terms(batch.like(self.box_head.fc6.weight))

    def losses(self, batch: RoiBatch) -> dict[str, Tensor]:
        """The raw loss terms of a batch from anywhere, by name."""
        return values(self(batch))

    def loss_terms(self, batch: RoiBatch) -> dict[str, LossTerm]:
        """Raw terms of the heads that there are."""
        terms = box_losses(self.box_head, batch)
        return terms if self.mask_head is None else terms | mask_losses(self.mask_head, batch)

    def classify(
        self, features: Sequence[Tensor], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> tuple[Float[Tensor, "r k"], Float[Tensor, "r four_k"]]:
        """Class logits and scaled deltas of each image's boxes, pooled from P2..P5."""
        return self.box_head(pool(features, boxes, box_head.SIZE))

    def detect(
        self,
        features: Sequence[Tensor],
        proposals: Sequence[Proposals],
        regions: Float[Tensor, "b 4"],
        params: EvaluateParams,
    ) -> list[Detections]:
        """Classes, refined boxes, post-processing, masks."""
        candidates = self.refine(features, proposals, regions, params)
        found = [postprocess(one, region, params) for one, region in zip(candidates, regions, strict=True)]
        return self.add_masks(features, found)

    def refine(
        self,
        features: Sequence[Tensor],
        proposals: Sequence[Proposals],
        regions: Float[Tensor, "b 4"],
        params: EvaluateParams,
    ) -> list[Candidates]:
        """Classes and boxes of each image's proposals.

        Beyond the assignment, where `params` says so: the box head looks again at the boxes that it has made, and a
        score is the mean over its looks (iterative localization, Gidaris and Komodakis, 2016); scores are multiplied by
        a power of the RPN's objectness, which knows how well a proposal fits an object.

        Returns:
            Per image; `logits` and `deltas` are those of the first look, at the proposals.
        """
        first = self._look(features, [found.boxes for found in proposals])
        last, sums = first, [one.scores for one in first]
        for _ in range(params.box_passes - 1):
            boxes = [clip(one.best_boxes(), region) for one, region in zip(last, regions, strict=True)]
            last = self._look(features, boxes)
            sums = [total + one.scores for total, one in zip(sums, last, strict=True)]
        powers = [found.scores[:, None] ** params.objectness_power for found in proposals]
        return [
            dataclasses.replace(one, scores=total / params.box_passes * power, boxes=final.boxes)
            for one, total, power, final in zip(first, sums, powers, last, strict=True)
        ]

    def _look(self, features: Sequence[Tensor], boxes: Sequence[Float[Tensor, "_ 4"]]) -> list[Candidates]:
        """What the box head says of each image's boxes."""
        counts = [len(found) for found in boxes]
        logits, deltas = (outputs.split(counts) for outputs in self.classify(features, boxes))
        return [Candidates.from_head(*parts) for parts in zip(boxes, logits, deltas, strict=True)]

    def add_masks(self, features: Sequence[Tensor], found: Sequence[Detections]) -> list[Detections]:
        """The mask of each detection's class, from features pooled at its refined box.

        Raises:
            ValueError: there is no mask head.
        """
        if self.mask_head is None:
            raise ValueError("masks: expected a mask head, found none")
        pooled = pool(features, [image.boxes for image in found], mask_head.SIZE)
        labels = torch.cat([image.labels for image in found])
        masks = select_class_masks(self.mask_head(pooled), labels).sigmoid()
        parts = masks.split([len(image.labels) for image in found])
        return [
            Detections(image.boxes, image.labels, image.scores, image.proposals, part)
            for image, part in zip(found, parts, strict=True)
        ]


def pool(features: Sequence[Tensor], boxes: Sequence[Float[Tensor, "_ 4"]], size: int) -> Float[Tensor, "r c p p"]:
    """RoIAlign over P2..P5 of each image's boxes, rows in order of images, then boxes."""
    return multiscale_roi_align(features[: len(STRIDES)], with_image_index(boxes), size, STRIDES)


def with_image_index(boxes: Sequence[Float[Tensor, "_ 4"]]) -> Float[Tensor, "r 5"]:
    """Boxes of all images as (image index, x1, y1, x2, y2)."""
    index = torch.cat([torch.full_like(image[:, :1], number) for number, image in enumerate(boxes)])
    return torch.cat([index, torch.cat(list(boxes))], dim=1)

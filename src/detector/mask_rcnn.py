"""The assembled detector: it learns (`losses`) and it detects (`detect`) (tasks 8 to 17).

Everything is in canvas coordinates; `src.data.letterbox` takes boxes and masks back to the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from src.core.params import Params
from src.detector import box_head, mask_head
from src.detector.backbones import CHANNELS, LiteBody, ResNetBody
from src.detector.box_head import Draws
from src.detector.criteria import RoiBatch, rpn_losses
from src.detector.fpn import FeaturePyramid
from src.detector.roi_heads import RoiHeads, with_image_index
from src.detector.rpn import RegionProposalNetwork
from src.detector.sampling import (
    AnchorSamples,
    LossRules,
    RoiSamples,
    roi_candidates,
    sample_anchors,
    sample_rois,
)
from src.detector.sparse_fpn import SparsePyramid
from src.ops.masks import mask_targets
from src.structures.detections import Detections
from src.structures.image_list import ImageList
from src.structures.loss_term import LossTerm, values
from src.structures.target import Target

PROPOSALS = 100  # of the RPN's, per image, among the RoIs that a training step draws from
FINEST = 2  # P2, the pyramid's first level


class Maps(Protocol):
    """Gives what a body makes of images, as if by calling it."""

    def __call__(self, body: nn.Module, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Feature maps, finest first."""


class BackboneWithFpn(nn.Module):
    """A body and the FPN over it; keys `body.*` and `fpn.*`, as in the course's checkpoint.

    Attributes:
        kept: where the body's maps come from, other than from the body.
    """

    def __init__(self, name: str, body: LiteBody | ResNetBody) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramid(CHANNELS[name])
        self.kept: Maps | None = None

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """P2..P5 and pool, [B, 256, H / stride, W / stride] each."""
        return self.fpn(self.maps(images))

    def levels_from(self, images: Float[Tensor, "b 3 h w"], finest_level: int) -> list[Tensor]:
        """P<finest_level>..P5 and pool; what finer levels alone need is not computed."""
        return self.fpn.outputs(self.fpn.top_down(self.maps(images), finest_level - FINEST))

    def top_down_maps(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The FPN's maps before their output convolutions."""
        return self.fpn.top_down(self.maps(images))

    def maps(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The body's maps, from where they are kept if they are (`src.detector.kept_maps`)."""
        return self.body(images) if self.kept is None else self.kept(self.body, images)


class MaskRCNN(nn.Module):
    """Two-stage instance segmentation.

    Args:
        backbone: body and FPN.
        rpn: proposals.
        roi_heads: box head, and mask head if there is one.
        params: `detect` reads of them the sections `features` and `evaluate`.
        rules: what `losses` draws; those of fine-tuning where nothing else is said.
    """

    def __init__(
        self,
        backbone: BackboneWithFpn,
        rpn: RegionProposalNetwork,
        roi_heads: RoiHeads,
        params: Params,
        rules: LossRules | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.rpn, self.roi_heads = backbone, rpn, roi_heads
        self.params, self._rules = params, rules

    @property
    def rules(self) -> LossRules:
        """What `losses` draws; a detector that only detects asks for none of these settings."""
        return self._rules or LossRules.for_fine_tuning(self.params)

    def losses(self, images: ImageList, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Raw loss terms of a minibatch, by name."""
        return values(self(images, targets))

    def forward(self, images: ImageList, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """Raw loss terms of a minibatch (see `src.detector.criteria`); call under autocast for mixed precision.

        The pyramid is evaluated only under the sampled anchors and RoIs. Proposals among the RoI candidates are those
        of the RPN as it now is, from a pass without gradients over `rules.finest_level` and the coarser levels: over P4
        to P5 it costs a twentieth of one with P2 and P3. Each image's draws come from `images.generators()`.

        Args:
            images: the minibatch.
            targets: ground truth of each image; with masks where there is a mask head.
        """
        top_down_maps = self.backbone.top_down_maps(images.tensors)
        pyramid = SparsePyramid(self.backbone.fpn, top_down_maps)
        anchors = torch.cat(self.rpn.anchors(images.tensors.shape[-2:], pyramid.grids))
        proposals = self._live_proposals(images, top_down_maps, anchors)
        samples = self._draw(images, targets, anchors, proposals)
        logits, deltas, pooled = pyramid.evaluate(
            self.rpn.head, [one.anchors.indices for one in samples], self._rois(samples)
        )
        terms = rpn_losses(logits, deltas, [one.anchors for one in samples])
        if self.rules.rois.count:
            terms |= self.roi_heads.loss_terms(_roi_batch(pooled, samples, targets))
        return terms

    def detect(self, images: ImageList) -> list[Detections]:
        """Detections of each image, with their masks."""
        features = self.backbone(images.tensors)
        proposals = [found.top(self.params.features.proposals) for found in self.rpn(images, features)]
        return self.roi_heads.detect(features, proposals, images.regions, self.params.evaluate)

    @torch.no_grad()
    def _live_proposals(self, images: ImageList, top_down_maps: Sequence[Tensor], anchors: Tensor) -> list[Tensor]:
        """The RPN's best boxes of each image from the finest level on; none where no RoI is to be drawn."""
        if not self.rules.rois.count:
            return [anchors[:0]] * len(images.regions)
        features = self.backbone.fpn.outputs(top_down_maps, finest=self.rules.finest_level - FINEST)
        proposals = [found.top(PROPOSALS).boxes for found in self.rpn(images, features)]
        torch.clear_autocast_cache()  # of weights that this pass cast to bf16 without a gradient, in older torch
        return proposals

    @torch.no_grad()
    def _draw(
        self, images: ImageList, targets: Sequence[Target], anchors: Tensor, proposals: Sequence[Tensor]
    ) -> list[Samples]:
        """Anchors and RoIs of each image, drawn one image after another."""
        samples = []
        parts = zip(targets, images.regions, proposals, images.generators(), strict=True)
        for target, region, proposed, draw in parts:
            drawn = sample_anchors(anchors, target, self.rules.anchors, draw)
            candidates = roi_candidates(proposed, target, region, draw)
            rois = sample_rois(candidates, target, self.rules.rois, draw)
            samples.append(Samples(drawn, rois, self._with_masks(rois, draw), draw))
        return samples

    def _with_masks(self, rois: RoiSamples, draw: torch.Generator) -> Int64[Tensor, " m"]:
        """Which of the positive RoIs learn their masks: all, or so many of them drawn at random."""
        count, limit = len(rois.truth), self.rules.mask_rois
        if limit is None or count <= limit:
            return torch.arange(count, device=rois.truth.device)
        return torch.randperm(count, generator=draw)[:limit].sort().values.to(rois.truth.device)

    def _rois(self, samples: Sequence[Samples]) -> list[tuple[Tensor, int]]:
        """What is pooled: all RoIs for the box head, those that learn a mask for the mask head if there is one."""
        rois = [(with_image_index([one.rois.boxes for one in samples]), box_head.SIZE)]
        if self.roi_heads.mask_head is not None:
            rois.append((with_image_index([one.rois.boxes[one.masks] for one in samples]), mask_head.SIZE))
        return rois


@dataclass(frozen=True)
class Samples:
    """What one image contributes to the losses.

    Attributes:
        anchors: for the RPN.
        rois: for the box head.
        masks: which of the RoIs learn their object's mask.
        generator: what all of it was drawn from, and the box head's dropout will be.
    """

    anchors: AnchorSamples
    rois: RoiSamples
    masks: Int64[Tensor, " m"]
    generator: torch.Generator


def _roi_batch(pooled: Sequence[Tensor], samples: Sequence[Samples], targets: Sequence[Target]) -> RoiBatch:
    """The RoIs of all images with what they are to learn; masks where features were pooled for them."""
    with_masks = len(pooled) > 1
    masks = [
        mask_targets(target.masks, one.rois.boxes[one.masks], one.rois.truth[one.masks], 2 * mask_head.SIZE)
        for target, one in zip(targets, samples if with_masks else (), strict=with_masks)
    ]
    learn_masks = torch.cat([one.rois.labels[one.masks] for one in samples])
    none = pooled[0][:0]
    return RoiBatch(
        pooled=pooled[0],
        labels=torch.cat([one.rois.labels for one in samples]),
        deltas=torch.cat([one.rois.deltas for one in samples]),
        mask_pooled=pooled[1] if with_masks else none,
        mask_labels=learn_masks if with_masks else learn_masks[:0],
        mask_targets=torch.cat(masks) if with_masks else none[:, 0].float(),
        draws=[Draws(len(one.rois.labels), one.generator) for one in samples],
    )

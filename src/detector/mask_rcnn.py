"""The assembled detector: it learns (`losses`) and it detects (`detect`) (tasks 8 to 17).

Everything is in canvas coordinates; `src.data.letterbox` takes boxes and masks back to the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.core.params import Params
from src.detector import box_head, mask_head
from src.detector.backbones import CHANNELS, Lite0Body, ResNetBody
from src.detector.criteria import RoiBatch, rpn_losses
from src.detector.fpn import FeaturePyramid
from src.detector.roi_heads import RoiHeads, with_image_index
from src.detector.rpn import RegionProposalNetwork
from src.detector.sampling import (
    AnchorRules,
    AnchorSamples,
    RoiRules,
    RoiSamples,
    roi_candidates,
    sample_anchors,
    sample_rois,
)
from src.detector.sparse_fpn import SparsePyramid
from src.ops.masks import mask_targets
from src.structures.detections import Detections
from src.structures.image_list import ImageList
from src.structures.target import Target

PROPOSALS = 100  # of the RPN's, per image, among the RoIs that a training step draws from


class BackboneWithFpn(nn.Module):
    """A body and the FPN over it; keys `body.*` and `fpn.*`, as in the course's checkpoint."""

    def __init__(self, name: str, body: Lite0Body | ResNetBody) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramid(CHANNELS[name])

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """P2..P5 and pool, [B, 256, H / stride, W / stride] each."""
        return self.fpn(self.body(images))

    def top_down_maps(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The FPN's maps before their output convolutions."""
        return self.fpn.top_down(self.body(images))


class MaskRCNN(nn.Module):
    """Two-stage instance segmentation.

    Args:
        backbone: body and FPN.
        rpn: proposals.
        roi_heads: box head, and mask head if there is one.
        params: each method reads of them what it needs: `losses` the sections `backbone` and `rois`,
            `detect` the sections `features` and `evaluate`.
    """

    def __init__(
        self, backbone: BackboneWithFpn, rpn: RegionProposalNetwork, roi_heads: RoiHeads, params: Params
    ) -> None:
        super().__init__()
        self.backbone, self.rpn, self.roi_heads = backbone, rpn, roi_heads
        self.params = params

    def forward(self, images: ImageList, targets: Sequence[Target]) -> dict[str, Tensor]:
        """`losses`: what Fabric wraps."""
        return self.losses(images, targets)

    def losses(self, images: ImageList, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Raw loss terms of a minibatch (see `src.detector.criteria`); call under autocast for mixed precision.

        The pyramid is evaluated only under the sampled anchors and RoIs. Proposals among the RoI candidates come from
        a pass without gradients over P4 and the coarser levels, a twentieth of the cost of one with P2 and P3. Draws
        are made from torch's global generator.

        Args:
            images: the minibatch.
            targets: ground truth of each image; with masks where there is a mask head.
        """
        top_down_maps = self.backbone.top_down_maps(images.tensors)
        pyramid = SparsePyramid(self.backbone.fpn, top_down_maps)
        anchors = torch.cat(self.rpn.anchors(images.tensors.shape[-2:], pyramid.grids))
        proposals = self._coarse_proposals(images, top_down_maps, anchors)
        samples = self._draw(images, targets, anchors, proposals)
        logits, deltas, pooled = pyramid.evaluate(
            self.rpn.head, [one.anchors.indices for one in samples], self._rois(samples)
        )
        terms = rpn_losses(logits, deltas, [one.anchors for one in samples])
        if len(pooled[0]):
            terms |= self.roi_heads.losses(_roi_batch(pooled, [one.rois for one in samples], targets))
        return terms

    def detect(self, images: ImageList) -> list[Detections]:
        """Detections of each image, with their masks."""
        features = self.backbone(images.tensors)
        proposals = [found.top(self.params.features.proposals) for found in self.rpn(images, features)]
        return self.roi_heads.detect(features, proposals, images.regions, self.params.evaluate)

    @torch.no_grad()
    def _coarse_proposals(self, images: ImageList, top_down_maps: Sequence[Tensor], anchors: Tensor) -> list[Tensor]:
        """The RPN's best boxes of each image from P4 and the coarser levels; none where no RoI is to be drawn."""
        if not self.params.backbone.box_batch_size_per_image:
            return [anchors[:0]] * len(images.regions)
        features = self.backbone.fpn.outputs(top_down_maps, finest=2)
        return [found.top(PROPOSALS).boxes for found in self.rpn(images, features)]

    @torch.no_grad()
    def _draw(
        self, images: ImageList, targets: Sequence[Target], anchors: Tensor, proposals: Sequence[Tensor]
    ) -> list[Samples]:
        """Anchors and RoIs of each image, drawn one image after another."""
        backbone, draw = self.params.backbone, torch.default_generator
        anchor_rules = AnchorRules.from_params(backbone)
        roi_rules = RoiRules.from_params(self.params.rois, backbone.box_batch_size_per_image)
        samples = []
        for target, region, proposed in zip(targets, images.regions, proposals, strict=True):
            drawn = sample_anchors(anchors, target, anchor_rules, draw)
            candidates = roi_candidates(proposed, target, region, draw)
            samples.append(Samples(drawn, sample_rois(candidates, target, roi_rules, draw)))
        return samples

    def _rois(self, samples: Sequence[Samples]) -> list[tuple[Tensor, int]]:
        """What is pooled: all RoIs for the box head, the positive ones for the mask head if there is one."""
        rois = [(with_image_index([one.rois.boxes for one in samples]), box_head.SIZE)]
        if self.roi_heads.mask_head is not None:
            rois.append((with_image_index([one.rois.positive for one in samples]), mask_head.SIZE))
        return rois


@dataclass(frozen=True)
class Samples:
    """What one image contributes to the losses."""

    anchors: AnchorSamples
    rois: RoiSamples


def _roi_batch(pooled: Sequence[Tensor], rois: Sequence[RoiSamples], targets: Sequence[Target]) -> RoiBatch:
    """The RoIs of all images with what they are to learn; masks where features were pooled for them."""
    with_masks = len(pooled) > 1
    masks = [
        mask_targets(target.masks, one.positive, one.truth, 2 * mask_head.SIZE)
        for target, one in zip(targets, rois if with_masks else (), strict=with_masks)
    ]
    positive = torch.cat([one.labels[: len(one.truth)] for one in rois])
    none = pooled[0][:0]
    return RoiBatch(
        pooled=pooled[0],
        labels=torch.cat([one.labels for one in rois]),
        deltas=torch.cat([one.deltas for one in rois]),
        mask_pooled=pooled[1] if with_masks else none,
        mask_labels=positive if with_masks else positive[:0],
        mask_targets=torch.cat(masks) if with_masks else none[:, 0].float(),
    )

"""The region proposal network over an FPN (tasks 8 and 10; Faster R-CNN, section 3.1; FPN, section 4.1).

Letters: B images, L levels, A anchors per location, N anchors of all levels together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms

from src.core.params import ProposalsParams
from src.ops.anchors import pyramid_anchors
from src.ops.boxes import clip, decode, is_not_empty
from src.ops.convolution import FastConv2d
from src.structures.image_list import ImageList
from src.structures.proposals import Proposals


class RpnHead(nn.Module):
    """A 3 x 3 convolution, then objectness and deltas 1 x 1; shared by all levels. Keys as in torchvision 0.4."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.conv = FastConv2d(channels, channels, 3, padding=1)
        self.cls_logits = nn.Conv2d(channels, anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * anchors, 1)
        for layer in (self.conv, self.cls_logits, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, features: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
        """Objectness logits [B, H*W*A] and deltas [B, H*W*A, 4], anchors of a location together."""
        hidden = F.relu(self.conv(features))
        logits = self.cls_logits(hidden).permute(0, 2, 3, 1).flatten(1)
        deltas = self.bbox_pred(hidden).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4))
        return logits, deltas

    def at(self, neighborhoods: Float[Tensor, "n nine_c"]) -> tuple[Tensor, Tensor]:
        """The same at single locations.

        Args:
            neighborhoods: the 3 x 3 neighborhood of each location, row-major, channels innermost.

        Returns:
            Logits [n, A] and deltas [n, A, 4].
        """
        hidden = F.relu(F.linear(neighborhoods, self.conv.weight.permute(0, 2, 3, 1).flatten(1), self.conv.bias))
        logits = F.linear(hidden, self.cls_logits.weight.flatten(1), self.cls_logits.bias)
        deltas = F.linear(hidden, self.bbox_pred.weight.flatten(1), self.bbox_pred.bias)
        return logits, deltas.unflatten(1, (-1, 4))


class RegionProposalNetwork(nn.Module):
    """Anchors, head and the choice of proposals.

    Args:
        sizes: anchor size of each level, pixels.
        ratios: height / width of the anchors of a location.
        params: how many proposals are kept, and how.
        channels: of the feature maps.
    """

    def __init__(
        self, sizes: Sequence[float], ratios: Sequence[float], params: ProposalsParams, channels: int = 256
    ) -> None:
        super().__init__()
        self.head = RpnHead(channels, len(ratios))
        self.sizes, self.ratios, self.params = tuple(sizes), tuple(ratios), params

    def forward(self, images: ImageList, features: Sequence[Tensor]) -> list[Proposals]:
        """Proposals of each image from the feature maps P2..P5 and pool, or from the coarser of them only."""
        logits, deltas = self.predict(features)
        anchors = self.anchors(images.tensors.shape[-2:], [tuple(level.shape[-2:]) for level in features])
        counts = [len(level) for level in anchors]
        return [
            self._choose(image_logits.split(counts), image_deltas.split(counts), anchors, region)
            for image_logits, image_deltas, region in zip(logits, deltas, images.regions, strict=True)
        ]

    def predict(self, features: Sequence[Tensor]) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n 4"]]:
        """Objectness logits and deltas of all anchors in float32, level after level."""
        logits, deltas = zip(*(self.head(level) for level in features), strict=True)
        return torch.cat(logits, dim=1).float(), torch.cat(deltas, dim=1).float()

    def anchors(self, canvas: Sequence[int], grids: Sequence[Sequence[int]]) -> list[Float[Tensor, "_ 4"]]:
        """Anchors of the coarsest `len(grids)` levels, placed and rounded as torchvision's, whose weights then fit."""
        device = self.head.conv.weight.device
        sizes = self.sizes[len(self.sizes) - len(grids) :]
        return pyramid_anchors(sizes, self.ratios, tuple(canvas), tuple(map(tuple, grids)), device=device)

    def _choose(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Sequence[Tensor], region: Tensor
    ) -> Proposals:
        """The best of each level, decoded, clipped to the picture, NMS within each level, best of all."""
        boxes, scores, levels = [], [], []
        for level, (level_logits, level_deltas, level_anchors) in enumerate(zip(logits, deltas, anchors, strict=True)):
            top = level_logits.topk(min(self.params.pre_nms_top_n, len(level_logits)))
            boxes.append(decode(level_deltas[top.indices], level_anchors[top.indices]))
            scores.append(top.values)
            levels.append(torch.full_like(top.indices, level))
        all_boxes = clip(torch.cat(boxes), region)
        kept = is_not_empty(all_boxes, self.params.min_size).nonzero().squeeze(1)
        found = Proposals(all_boxes[kept], torch.cat(scores)[kept].sigmoid())
        best = batched_nms(found.boxes, found.scores, torch.cat(levels)[kept], self.params.nms_iou)
        best = best[: self.params.post_nms_top_n]
        return Proposals(found.boxes[best], found.scores[best])

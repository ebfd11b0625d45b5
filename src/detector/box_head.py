"""Classifier and regressor of each RoI (task 14; Fast R-CNN, section 2.1; Mask R-CNN, figure 4 right)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from src.ops.boxes import decode, encode

SIZE = 7  # P, cells a side
# Deltas of good proposals are small, so the head learns them multiplied by these (Fast R-CNN's normalized targets;
# torchvision's and detectron2's weights): without them the regression loss would be a hundredth of the other.
DELTA_SCALE = (10.0, 10.0, 5.0, 5.0)


class Draws(NamedTuple):
    """What an image's random draws come from, and how many RoIs it has in a batch."""

    rois: int
    generator: torch.Generator  # on the CPU


class BoxHead(nn.Module):
    """C*P*P -> representation_size -> representation_size with ReLU, then class logits and four deltas per class.

    Args:
        num_classes: with background.
        channels: C of the pooled features.
        representation_size: width of the two shared layers.
        dropout: share of hidden units dropped in training.
    """

    def __init__(
        self, num_classes: int, channels: int = 256, representation_size: int = 1024, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.fc6 = nn.Linear(channels * SIZE * SIZE, representation_size)
        self.fc7 = nn.Linear(representation_size, representation_size)
        self.cls_score = nn.Linear(representation_size, num_classes)
        self.bbox_pred = nn.Linear(representation_size, 4 * num_classes)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        for layer in (self.fc6, self.fc7, self.cls_score, self.bbox_pred):
            nn.init.zeros_(layer.bias)

    def forward(
        self, pooled: Float[Tensor, "r c p p"], draws: Sequence[Draws] = ()
    ) -> tuple[Float[Tensor, "r k"], Float[Tensor, "r four_k"]]:
        """Class logits (no softmax: cross entropy applies it) and scaled deltas, float32.

        Args:
            pooled: features of the RoIs, image after image.
            draws: of each image, what its dropout comes from; none: torch's global generator.
        """
        hidden = self._drop(F.relu(self.fc6(pooled.flatten(1))), draws)
        hidden = self._drop(F.relu(self.fc7(hidden)), draws)
        return self.cls_score(hidden).float(), self.bbox_pred(hidden).float()

    def _drop(self, hidden: Float[Tensor, "r n"], draws: Sequence[Draws]) -> Float[Tensor, "r n"]:
        """Dropout in training; what an image loses does not depend on those beside it."""
        share = self.dropout.p
        if not draws or not self.training or not share:
            return self.dropout(hidden)
        kept = [torch.rand((one.rois, hidden.shape[1]), generator=one.generator) >= share for one in draws]
        return hidden * (torch.cat(kept).to(hidden) / (1 - share))


def encode_scaled(boxes: Float[Tensor, "n 4"], proposals: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    """Task 6's encoding of `boxes` relative to `proposals`, times `DELTA_SCALE`."""
    return encode(boxes, proposals) * torch.tensor(DELTA_SCALE, device=boxes.device)


def decode_scaled(deltas: Float[Tensor, "n four_k"], proposals: Float[Tensor, "n 4"]) -> Float[Tensor, "n k 4"]:
    """The inverse: one box a class and proposal."""
    scale = torch.tensor(DELTA_SCALE, device=deltas.device)
    return decode((deltas.unflatten(1, (-1, 4)) / scale).flatten(1), proposals).unflatten(1, (-1, 4))

"""Classifier and regressor of each RoI (task 14; Fast R-CNN, section 2.1; Mask R-CNN, figure 4 right)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from src.ops.boxes import decode, encode

SIZE = 7  # P, cells a side
# Deltas of good proposals are small, so the head learns them multiplied by these (Fast R-CNN's normalized targets;
# torchvision's and detectron2's weights): without them the regression loss would be a hundredth of the other.
DELTA_SCALE = (10.0, 10.0, 5.0, 5.0)


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

    def forward(self, pooled: Float[Tensor, "r c p p"]) -> tuple[Float[Tensor, "r k"], Float[Tensor, "r four_k"]]:
        """Class logits (no softmax: cross entropy applies it) and scaled deltas, float32."""
        hidden = self.dropout(F.relu(self.fc6(pooled.flatten(1))))
        hidden = self.dropout(F.relu(self.fc7(hidden)))
        return self.cls_score(hidden).float(), self.bbox_pred(hidden).float()


def encode_scaled(boxes: Float[Tensor, "n 4"], proposals: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    """Task 6's encoding of `boxes` relative to `proposals`, times `DELTA_SCALE`."""
    return encode(boxes, proposals) * torch.tensor(DELTA_SCALE, device=boxes.device)


def decode_scaled(deltas: Float[Tensor, "n four_k"], proposals: Float[Tensor, "n 4"]) -> Float[Tensor, "n k 4"]:
    """The inverse: one box a class and proposal."""
    scale = torch.tensor(DELTA_SCALE, device=deltas.device)
    return decode((deltas.unflatten(1, (-1, 4)) / scale).flatten(1), proposals).unflatten(1, (-1, 4))

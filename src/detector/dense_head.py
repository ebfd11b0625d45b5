"""The head of a one-stage detector: classes and deltas at each location of a pyramid (RetinaNet, section 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.ops.convolution import FastConv2d

GROUPS = 32  # of channels that are normalized together
PRIOR = 0.01  # probability of each class at the start: without it the many background anchors swamp the first steps


class DenseHead(nn.Module):
    """Two towers of 3 x 3 convolutions, one for classes and one for boxes; shared by all levels.

    Each convolution is followed by group normalization, as in torchvision's second RetinaNet, and ReLU: the pyramid's
    levels differ in scale, and with so few steps the towers would spend them on that.

    Args:
        anchors: of a location.
        classes: without background.
        in_channels: of the pyramid.
        channels: of the towers.
        convolutions: in each tower, before the one that predicts.
    """

    def __init__(
        self, anchors: int, classes: int, *, in_channels: int = 256, channels: int = 256, convolutions: int = 4
    ) -> None:
        super().__init__()
        self.cls_tower = _tower(in_channels, channels, convolutions)
        self.bbox_tower = _tower(in_channels, channels, convolutions)
        width = channels if convolutions else in_channels
        self.cls_logits = FastConv2d(width, anchors * classes, 3, padding=1)
        self.bbox_pred = FastConv2d(width, anchors * 4, 3, padding=1)
        self.classes = classes
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)  # the anchors as they are, to begin with
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Float[Tensor, "b c _ _"]]) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits [B, H*W*A, K] and deltas [B, H*W*A, 4] of each level, float32, a location's anchors together."""
        logits = [_rows(self.cls_logits(self.cls_tower(level)), self.classes) for level in levels]
        deltas = [_rows(self.bbox_pred(self.bbox_tower(level)), 4) for level in levels]
        return logits, deltas


def _tower(in_channels: int, channels: int, convolutions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(convolutions):
        convolution = FastConv2d(channels if number else in_channels, channels, 3, padding=1, bias=False)
        layers += [convolution, nn.GroupNorm(math.gcd(GROUPS, channels), channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _rows(outputs: Float[Tensor, "b ak h w"], width: int) -> Float[Tensor, "b n k"]:
    """[B, A*K, H, W] as [B, H*W*A, K]."""
    return torch.unflatten(outputs.permute(0, 2, 3, 1).flatten(1), 1, (-1, width)).float()

"""The mask branch (task 16; Mask R-CNN, figure 4 right): one 28 x 28 mask per class for each RoI."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 14  # P, cells a side; the masks have twice as many


class MaskHead(nn.Module):
    """Four 3 x 3 convolutions, a 2 x 2 deconvolution, a 1 x 1 convolution to one mask per class.

    Args:
        num_classes: with background.
        in_channels: of the pooled features.
        channels: of the hidden layers.
    """

    def __init__(self, num_classes: int, in_channels: int = 256, channels: int = 256) -> None:
        super().__init__()
        self.mask_fcn1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.mask_fcn2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.mask_fcn3 = nn.Conv2d(channels, channels, 3, padding=1)
        self.mask_fcn4 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv5_mask = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.mask_fcn_logits = nn.Conv2d(channels, num_classes, 1)
        for layer in self.children():
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, pooled: Float[Tensor, "r c p p"]) -> Float[Tensor, "r k m m"]:
        """Mask logits of every class, m = 2 p, float32."""
        hidden = pooled.contiguous(memory_format=torch.channels_last)
        for layer in (self.mask_fcn1, self.mask_fcn2, self.mask_fcn3, self.mask_fcn4, self.conv5_mask):
            hidden = F.relu(layer(hidden))
        return self.mask_fcn_logits(hidden).float()


def select_class_masks(masks: Float[Tensor, "r k m m"], labels: Int64[Tensor, " r"]) -> Float[Tensor, "r m m"]:
    """Of each RoI's masks the one of its class."""
    return masks[torch.arange(len(labels), device=masks.device), labels]

"""Part (a)'s network: five convolutions, the intermediate layer, proposal classifier and regressor (tasks 1, 4, 6).

Letters: B images, H and W canvas pixels, A anchors per location, h = H / 16 rows and w = W / 16 columns of the grid
(50 x 68 for 800 x 1088).

Convolutions that batch normalization follows have no bias: the normalization would subtract it again, and its own
shift takes the bias's place. Statistics are those of one image, taken over at least 50 x 68 positions of each channel,
so plain batch normalization is stable.

The classifier returns logits. The sigmoid that task 4 names is applied by whoever needs a probability; the loss takes
the logit, because log(sigmoid(x)) in one step neither overflows nor loses digits where the sigmoid saturates.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.ops.convolution import FastConv2d

CHANNELS: Final = (16, 32, 64, 128, 256)
STRIDE: Final = 16
ANCHOR_OFFSET: Final = 0.5  # anchors stand in the middle of their 16 x 16 cell


class PlainRpnNetwork(nn.Module):
    """The region proposal network of part (a).

    Attributes:
        backbone: the table of task 1, layers named as there; a ReLU before a pooling stands after it.
        intermediate: 3 x 3 x 256 with batch normalization and ReLU, shared by classifier and regressor.
        classifier: 1 x 1, one objectness logit per anchor.
        regressor: 1 x 1, t_x t_y t_w t_h an anchor, without normalization or rectification.

    Args:
        anchors: anchors per location, A.
    """

    def __init__(self, anchors: int = 1) -> None:
        super().__init__()
        self.anchors = anchors
        self.backbone = nn.Sequential()
        channels = 3
        for number, width in enumerate(CHANNELS, start=1):
            last = number == len(CHANNELS)
            self.backbone.add_module(f"convolution{number}", convolution(channels, width, 5, rectified=last))
            if not last:
                self.backbone.add_module(f"pooling{number}", rectified_pooling())
            channels = width
        self.intermediate = convolution(channels, channels, 3)
        self.classifier = nn.Conv2d(channels, anchors, 1)
        self.regressor = nn.Conv2d(channels, 4 * anchors, 1)
        initialize(self)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B A h w"], Float[Tensor, "B C h w"]]:
        """Objectness logits, and C = 4A deltas with those of an anchor side by side."""
        features = self.intermediate(self.backbone(images))
        return self.classifier(features), self.regressor(features)


def convolution(channels: int, width: int, kernel: int, *, rectified: bool = True) -> nn.Sequential:
    """Convolution with same padding, batch normalization, ReLU (left to the pooling where not `rectified`).

    Batches are of one image, as the assignment's remark has it, so the statistics are that image's own, in training
    as in testing, and stay so where a minibatch has several. Running averages over images would be no substitute:
    scenes differ so much in color and texture that under them the trained network calls .64 of the anchors right in
    place of what it learned.
    """
    layers = nn.Sequential(
        FastConv2d(channels, width, kernel, padding=kernel // 2, bias=False),
        ImageBatchNorm(width, track_running_stats=False),
    )
    return layers.append(nn.ReLU(inplace=True)) if rectified else layers


class ImageBatchNorm(nn.BatchNorm2d):
    """Batch normalization over each image of a minibatch by itself.

    What an image teaches is then the same in a minibatch of any size, on any number of processes.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalizes [B, C, h, w] over the positions of each image."""
        if len(input) == 1:
            return super().forward(input)
        return torch.cat([super(ImageBatchNorm, self).forward(image) for image in input.split(1)])


def rectified_pooling() -> nn.Sequential:
    """The greatest of 2 x 2 positions, and the ReLU of the convolution before.

    The order changes no bit, neither of a value nor of a gradient: max(relu(a), relu(b)) = relu(max(a, b)), and where
    the maximum is positive both choose the same position. But only a quarter of the numbers is rectified.
    """
    return nn.Sequential(nn.MaxPool2d(2, stride=2), nn.ReLU(inplace=True))


def initialize(network: PlainRpnNetwork) -> None:
    """He's normal initialization for layers before a ReLU, N(0, 0.01) and zero bias for the two outputs (Faster R-CNN).

    The network then starts at probability one half everywhere and at boxes equal to their anchors. Samples are 1:1,
    so one half is also the right prior.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.bias is None:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for output in (network.classifier, network.regressor):
        nn.init.normal_(output.weight, std=0.01)
        if output.bias is not None:
            nn.init.zeros_(output.bias)


def flatten_outputs(
    logits: Float[Tensor, "B A h w"], deltas: Float[Tensor, "B C h w"]
) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N 4"]]:
    """Float32 rows in the order of `src.ops.anchors.grid_anchors`: y, then x, then the anchor; N = h * w * A."""
    batch, anchors, height, width = logits.shape
    scores = logits.permute(0, 2, 3, 1).reshape(batch, -1)  # [B, N]
    split = deltas.reshape(batch, anchors, 4, height, width)  # [B, A, 4, h, w]
    return scores.float(), split.permute(0, 3, 4, 1, 2).reshape(batch, -1, 4).float()

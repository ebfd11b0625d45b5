"""The receptive field of part (a)'s neurons: computed layer by layer, and measured by a gradient (task 5).

A layer of kernel k and stride s sees k positions of its input, which lie `jump` pixels apart in the image. So the
field grows by (k - 1) * jump, and the jump becomes jump * s.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.plain_rpn.network import PlainRpnNetwork


@dataclass(frozen=True)
class Layer:
    """One row of the table of layers.

    Attributes:
        name: e.g. `backbone.convolution3`.
        kernel: side of the kernel, positions.
        stride: positions of the input from one output to the next.
        output: channels, rows, columns for one image.
        parameters: weights and biases, those of the batch normalization included.
        receptive_field: side of the square of image pixels that one output can depend on.
    """

    name: str
    kernel: int
    stride: int
    output: tuple[int, int, int]
    parameters: int
    receptive_field: int


def layers(network: PlainRpnNetwork, height: int, width: int) -> list[Layer]:
    """The network's layers for an image of `height` x `width`; both outputs start from the intermediate layer."""
    named = [(f"backbone.{name}", module) for name, module in network.backbone.named_children()]
    rows: list[Layer] = []
    field, jump, shape = 1, 1, (3, height, width)
    for name, module in [*named, ("intermediate", network.intermediate)]:
        row, jump = _next(name, module, (field, jump), shape)
        rows.append(row)
        field, shape = row.receptive_field, row.output
    outputs = (("classifier", network.classifier), ("regressor", network.regressor))
    return rows + [_next(name, module, (field, jump), shape)[0] for name, module in outputs]


def receptive_field(network: PlainRpnNetwork) -> int:
    """Side of the square that a neuron of the intermediate layer sees, pixels, from kernels and strides."""
    return next(row.receptive_field for row in layers(network, 16, 16) if row.name == "intermediate")


def _next(name: str, module: nn.Module, seen: tuple[int, int], shape: tuple[int, int, int]) -> tuple[Layer, int]:
    """The row of one layer and the jump after it; `seen` is the field and jump before it."""
    field, jump = seen
    spatial = next(part for part in module.modules() if isinstance(part, nn.Conv2d | nn.MaxPool2d))
    kernel, stride = _side(spatial.kernel_size), _side(spatial.stride)
    channels = spatial.out_channels if isinstance(spatial, nn.Conv2d) else shape[0]
    output = (channels, shape[1] // stride, shape[2] // stride)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return Layer(name, kernel, stride, output, parameters, field + (kernel - 1) * jump), jump * stride


def _side(size: object) -> int:
    return int(size[0]) if isinstance(size, tuple) else int(size)  # type: ignore[call-overload]


def measured_receptive_field(network: PlainRpnNetwork) -> tuple[int, int]:
    """Rows and columns of the image with a non-zero gradient of one neuron of the intermediate layer.

    A trained network cannot show its whole field: a maximum passes its gradient to one of four positions, a ReLU may
    pass none. So a copy is measured in which nothing is lost: average instead of maximum, positive weights, identity
    instead of ReLU and normalization. Kernels, strides and padding, which alone decide the field, stay.
    """
    linear = _linear_copy(network)
    side = 2 * receptive_field(network) // 16 * 16 + 16
    gradient = input_gradient(linear, torch.zeros(1, 3, side, side))
    seen = gradient > 0
    return int(seen.any(dim=1).sum()), int(seen.any(dim=0).sum())


def input_gradient(
    network: PlainRpnNetwork, image: Float[Tensor, "1 3 H W"], cell: tuple[int, int] | None = None
) -> Float[Tensor, "H W"]:
    """Sum over colors of the absolute gradient of one neuron's summed channels w.r.t. the image, on the processor.

    In double precision, where each convolution is what its definition says: those by Fourier or Winograd transforms, of
    a GPU or of a processor in float32, leave tiny gradients outside the receptive field.

    Args:
        network: `freeze_batch_stats`, so that no neuron sees the whole image through batch statistics.
        image: normalized.
        cell: row and column of the neuron in the intermediate layer; its middle if None.
    """
    network = copy.deepcopy(network).cpu().double()
    image = image.detach().cpu().double().requires_grad_(True)
    features = network.intermediate(network.backbone(image))
    row, column = cell or (features.shape[2] // 2, features.shape[3] // 2)
    (gradient,) = torch.autograd.grad(features[0, :, row, column].sum(), image)
    return gradient[0].abs().sum(dim=0)


def freeze_batch_stats(network: PlainRpnNetwork, image: Float[Tensor, "1 3 H W"]) -> PlainRpnNetwork:
    """A copy whose normalization holds the statistics of this image fast, as constants."""
    copied = copy.deepcopy(network)
    for norm in (module for module in copied.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.track_running_stats, norm.momentum = True, 1.0
        norm.running_mean, norm.running_var = torch.zeros_like(norm.weight), torch.ones_like(norm.weight)
    with torch.no_grad():
        copied.train()(image)
    return copied.eval()


def _linear_copy(network: PlainRpnNetwork) -> PlainRpnNetwork:
    """The same kernels, strides and padding with equal positive weights and nothing that stops a gradient."""
    linear = copy.deepcopy(network).eval()
    for parent in list(linear.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
            elif isinstance(child, nn.ReLU | nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())
            elif isinstance(child, nn.Conv2d):
                nn.init.constant_(child.weight, 1 / child.weight[0].numel())
    return linear

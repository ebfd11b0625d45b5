"""Convolutions of 3 x 3 and 5 x 5 that are fast in float32 (`src.core.nnpack`), in place of `nn.Conv2d`."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from src.core.nnpack import KERNELS, convolve, has_nnpack

LEAST_CHANNELS = 16  # of input and output; below, and on smaller maps, there is little or nothing to gain
LEAST_POSITIONS = 800


class FastConv2d(nn.Conv2d):
    """`nn.Conv2d`, same keys and same values up to rounding; by NNPACK where that is at hand and pays."""

    def forward(self, input: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b d _ _"]:  # noqa: A002 - torch's name
        """The convolution. In training the input's gradient is as fast; the weight's is torch's own."""
        if self._is_fast() and _pays(input):
            return _Convolution.apply(input, self.weight, self.bias)
        return super().forward(input)

    def _is_fast(self) -> bool:
        """Whether it is one of those that gain: odd square kernel, the map keeps its size."""
        (kernel, other), padding = self.kernel_size, (self.kernel_size[0] // 2,) * 2
        return (
            kernel == other
            and kernel in KERNELS
            and (self.padding, self.stride, self.dilation, self.groups) == (padding, (1, 1), (1, 1), 1)
            and self.padding_mode == "zeros"
            and min(self.in_channels, self.out_channels) >= LEAST_CHANNELS
        )


def _pays(features: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()  # nor exported: no other program knows NNPACK's operator
        and features.is_cpu
        and features.dtype == torch.float32
        and features.dim() == 4
        and len(features) > 0
        and features.shape[2] * features.shape[3] >= LEAST_POSITIONS
        and not torch.is_autocast_enabled(features.device.type)
        and has_nnpack()
    )


class _Convolution(torch.autograd.Function):
    """A convolution with same padding whose gradient with respect to its input is one too, with the kernel turned."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.bias_sizes = None if bias is None else list(bias.shape)
        return convolve(features, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        to_features, to_weight, to_bias = ctx.needs_input_grad
        gradient_in = convolve(gradient, weight.flip(2, 3).transpose(0, 1), None) if to_features else None
        padding = [weight.shape[-1] // 2] * 2
        _, gradient_weight, gradient_bias = torch.ops.aten.convolution_backward(
            gradient, features, weight, ctx.bias_sizes, [1, 1], padding, [1, 1], False, [0, 0], 1,
            [False, to_weight, to_bias],
        )  # fmt: skip
        return gradient_in, gradient_weight, gradient_bias

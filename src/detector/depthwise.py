"""A depthwise convolution that is quick to train on a processor in bf16.

PyTorch's bf16 gradients of depthwise convolutions take up to ten times as long as its float32 ones on a processor
(5 x 5 kernels, 2 images of 100 x 136 x 240: 196 ms against 45 ms on two cores), and were two thirds of a training
step. So the forward pass runs in the given precision, the gradients in float32, which is also the more exact of the
two. On a GPU PyTorch's own gradients are used.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class Depthwise(nn.Module):
    """Takes over a depthwise convolution's weights; padding "same" as TensorFlow has it (the odd pixel at the end).

    Args:
        convolution: a depthwise convolution with a bias and a square kernel.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.stride, self.kernel = convolution.stride[0], convolution.kernel_size[0]

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Each channel convolved with its own kernel; h2 = ceil(h / stride)."""
        padded = F.pad(features, [*self._padding(features.shape[3]), *self._padding(features.shape[2])])
        if features.device.type != "cpu" or features.dtype != torch.bfloat16:
            return F.conv2d(padded, self.weight, self.bias, self.stride, groups=len(self.weight))
        return _Depthwise.apply(padded, self.weight, self.bias, self.stride)

    def _padding(self, length: int) -> tuple[int, int]:
        total = max((-(-length // self.stride) - 1) * self.stride + self.kernel - length, 0)
        return total // 2, total - total // 2


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution in the features' precision, its gradients in float32."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.stride = stride
        kind = features.dtype
        return F.conv2d(features, weight.to(kind), bias.to(kind), stride, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        stride = [ctx.stride, ctx.stride]
        grads = torch.ops.aten.convolution_backward(
            gradient.float(),
            features.float(),
            weight.float(),
            [len(weight)],
            stride,
            [0, 0],
            [1, 1],
            False,
            [0, 0],
            len(weight),
            list(ctx.needs_input_grad[:3]),
        )
        kinds = (features.dtype, weight.dtype, weight.dtype)
        return *(None if part is None else part.to(kind) for part, kind in zip(grads, kinds, strict=True)), None

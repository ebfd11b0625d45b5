"""How many operations a piece of work is: those of its matrix products and convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from src.core.nnpack import has_nnpack


def flop_of(call: Callable[[], Any]) -> int:
    """Floating-point operations of a call, gradients included where it computes them."""
    has_nnpack()  # whose own try, at the first question, is no part of the work
    with FlopCounterMode(display=False, custom_mapping=COUNTS) as counter:
        call()
    return counter.get_total_flops()


def convolution_gradients(
    gradient: Sequence[int], _input: Sequence[int], weight: Sequence[int], *settings: Any, **_: Any
) -> int:
    """FLOP of a convolution's gradients: each of the two costs what the forward pass does.

    PyTorch's own count takes every output channel to see every input channel, which is hundreds of times too much
    for a depthwise convolution. The operator's last setting says which gradients are wanted: input, weight, bias.
    """
    wanted = settings[-1]
    return 2 * math.prod(gradient) * math.prod(weight[1:]) * sum(map(bool, wanted[:2]))


def fast_convolution(_input: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Sequence[int]) -> int:
    """FLOP of a convolution by its definition, of which a fast algorithm saves some."""
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


COUNTS = {
    torch.ops.aten.convolution_backward: convolution_gradients,
    torch.ops.aten._nnpack_spatial_convolution: fast_convolution,  # noqa: SLF001
}

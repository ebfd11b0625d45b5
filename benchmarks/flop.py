"""How many operations a piece of work is: those of its matrix products and convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def flop_of(call: Callable[[], Any]) -> int:
    """Floating-point operations of a call, gradients included where it computes them."""
    with FlopCounterMode(display=False, custom_mapping=GRADIENTS) as counter:
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


GRADIENTS = {torch.ops.aten.convolution_backward: convolution_gradients}

"""FLOP of convolutions' gradients: twice the forward pass, whatever the groups."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.flop import flop_of
from src.ops.convolution import FastConv2d


def count(layer: nn.Module, pixels: torch.Tensor, *, gradients: bool) -> int:
    return flop_of(lambda: layer(pixels).sum().backward() if gradients else layer(pixels))


@pytest.mark.parametrize("groups", [1, 8])
def test_gradients_cost_twice_the_forward_pass(groups: int) -> None:
    layer = nn.Conv2d(8, 8, 3, padding=1, groups=groups)
    pixels = torch.rand(2, 8, 10, 12, requires_grad=True)
    forward = count(layer, pixels, gradients=False)
    assert forward == 2 * (2 * 8 * 10 * 12) * (8 // groups * 9)
    assert count(layer, pixels, gradients=True) == 3 * forward


def test_a_gradient_that_nobody_wants_costs_nothing() -> None:
    layer = nn.Conv2d(8, 8, 3, padding=1)
    pixels = torch.rand(2, 8, 10, 12)
    assert count(layer, pixels, gradients=True) == 2 * count(layer, pixels, gradients=False)


@pytest.mark.parametrize("gradients", [False, True])
def test_a_fast_convolution_counts_as_its_definition(gradients: bool) -> None:
    torch.manual_seed(0)
    pixels = torch.rand(2, 16, 40, 40, requires_grad=True)
    fast, plain = FastConv2d(16, 24, 5, padding=2), nn.Conv2d(16, 24, 5, padding=2)
    assert count(fast, pixels, gradients=gradients) == count(plain, pixels, gradients=gradients)

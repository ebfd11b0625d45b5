"""The depthwise convolution against timm's and PyTorch's own."""

from __future__ import annotations

import itertools

import pytest
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from src.detector.depthwise import Depthwise

CASES = list(itertools.product((1, 2), (3, 5), ((7, 9), (8, 8), (1, 2), (13, 6))))
CHANNELS = 6


def same_convolution(stride: int, kernel: int) -> nn.Conv2d:
    torch.manual_seed(stride * 10 + kernel)
    return Conv2dSame(CHANNELS, CHANNELS, kernel, stride, groups=CHANNELS, bias=True)


def features(size: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, CHANNELS, *size, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize(("stride", "kernel", "size"), CASES)
def test_float32_is_timm_s_to_the_bit(stride: int, kernel: int, size: tuple[int, int]) -> None:
    convolution = same_convolution(stride, kernel)
    assert torch.equal(Depthwise(convolution)(features(size)), convolution(features(size)))


@pytest.mark.parametrize(("stride", "kernel", "size"), CASES)
def test_bf16_forward_is_pytorch_s(stride: int, kernel: int, size: tuple[int, int]) -> None:
    convolution = same_convolution(stride, kernel)
    found = Depthwise(convolution)(features(size, torch.bfloat16))
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, convolution.bfloat16()(features(size, torch.bfloat16)))


@pytest.mark.parametrize(("stride", "kernel", "size"), CASES)
def test_bf16_gradients_are_close_to_those_in_float64(stride: int, kernel: int, size: tuple[int, int]) -> None:
    convolution = same_convolution(stride, kernel)
    layer, seen = Depthwise(convolution), features(size, torch.bfloat16).requires_grad_()
    found = layer(seen)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(2)).bfloat16()
    gradients = torch.autograd.grad(found, [seen, layer.weight, layer.bias], upstream)
    reference, exact = same_convolution(stride, kernel).double(), seen.detach().double().requires_grad_()
    expected = torch.autograd.grad(reference(exact), [exact, reference.weight, reference.bias], upstream.double())
    assert [gradient.dtype for gradient in gradients] == [torch.bfloat16, torch.float32, torch.float32]
    torch.testing.assert_close(gradients[0].double(), expected[0], rtol=2**-8, atol=1e-6)
    for gradient, wanted in zip(gradients[1:], expected[1:], strict=True):
        torch.testing.assert_close(gradient.double(), wanted, rtol=1e-4, atol=1e-5)


def test_frozen_weights_get_no_gradient() -> None:
    layer = Depthwise(same_convolution(1, 3)).requires_grad_(False)
    seen = features((5, 5), torch.bfloat16).requires_grad_()
    layer(seen).float().sum().backward()
    assert seen.grad is not None
    assert layer.weight.grad is None
    assert layer.bias.grad is None


def test_it_takes_over_the_parameters_themselves() -> None:
    convolution = same_convolution(2, 5)
    layer = Depthwise(convolution)
    assert layer.weight is convolution.weight
    assert layer.bias is convolution.bias

"""NNPACK, which PyTorch carries along: convolutions of 3 x 3 and 5 x 5 in float32 by fast algorithms.

A processor without bf16 spends most of a run in a few wide convolutions on large maps. oneDNN, which PyTorch asks,
multiplies and adds there as the definition has it; NNPACK goes by Winograd's algorithm F(6 x 6, 3 x 3) and by Fourier
transforms of tiles (Lavin and Gray, CVPR 2016; Mathieu et al., ICLR 2014): a third of the time on P2's map, and equal
to about 1e-5 of the largest output. `docs/scale.md` has the times, `docs/exactness.md` the differences.

Where PyTorch has both it asks oneDNN, and NNPACK's operator is none of the documented ones: where it is missing, or
answers otherwise than PyTorch's own convolution when it is first asked, that one is used. Its threads are as many as
PyTorch had at that first question.
"""

from __future__ import annotations

import functools
import platform
import warnings

import torch
from torch import Tensor
from torch.nn import functional as F

KERNELS = (3, 5)
CHANNELS = 16  # of the maps that the first question is about
TOLERANCE = 1e-3  # of the largest output, at the first question; the algorithms' own error is a hundredth of it


@functools.cache
def has_nnpack() -> bool:
    """Whether NNPACK is there, on a processor of the kind that it was tried on, and answers as torch does."""
    if platform.machine().lower() not in {"x86_64", "amd64"} or not hasattr(torch, "_nnpack_spatial_convolution"):
        return False
    with warnings.catch_warnings():  # of a processor without AVX2
        warnings.simplefilter("ignore")
        if not torch.backends.nnpack.is_available():
            return False
    return all(_agrees(kernel) for kernel in KERNELS)


def convolve(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution with same padding; ask `has_nnpack` first, without which the operator does not work.

    One image after another: NNPACK's way for a batch is slower for the few images of a step.

    Args:
        features: [B, C, H, W] float32, B at least 1.
        weight: [D, C, k, k], k one of `KERNELS`.
        bias: [D].

    Returns:
        [B, D, H, W].
    """
    padding = [weight.shape[-1] // 2] * 2
    maps = [
        torch._nnpack_spatial_convolution(image.contiguous(), weight.contiguous(), bias, padding)  # noqa: SLF001
        for image in features.split(1)
    ]
    return maps[0] if len(maps) == 1 else torch.cat(maps)


def _agrees(kernel: int) -> bool:
    draw = torch.Generator().manual_seed(kernel)
    features = torch.randn(1, CHANNELS, 40, 37, generator=draw)
    weight = torch.randn(CHANNELS, CHANNELS, kernel, kernel, generator=draw)
    expected = F.conv2d(features, weight, padding=kernel // 2)
    try:
        found = convolve(features, weight, None)
    except RuntimeError:
        return False
    return bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())  # false for NaN

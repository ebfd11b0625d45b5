"""Boxes and feature maps for the tests of RoIAlign, and how its results are compared with torchvision's."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Absolute. torchvision's CPU operator refuses bfloat16: it gets the same numbers in float32, and ours may differ by
# the rounding of the result on top.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9, torch.bfloat16: 1e-4}
ROUNDING = {torch.bfloat16: 2**-8}

# On a 20 x 24 map at scale 1/2, i.e. a picture of 48 x 40 pixels.
HOSTILE: dict[str, list[float]] = {
    "inside": [5, 6, 30, 32],
    "on the border": [0, 0, 48, 40],
    "across": [-10, -4, 20, 20],
    "across the far corner": [40, 30, 70, 60],
    "outside": [100, 100, 140, 130],
    "outside, before": [-60, -50, -20, -30],
    "points exactly on the boundary rule": [-3, -3, 1, 1],
    "empty": [10, 10, 10, 10],
    "without width": [10, 10, 10, 30],
    "inverted": [30, 32, 5, 6],
    "half inverted": [30, 6, 5, 32],
    "tiny": [10.3, 10.7, 10.31, 10.72],
    "huge": [-5000, -4000, 6000, 7000],
    "a pixel": [10, 10, 12, 12],
}
INVERTED = ("inverted", "half inverted")


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def hostile_boxes(dtype: torch.dtype = torch.float32, without: Sequence[str] = ()) -> Tensor:
    rows = [[i % 3, *box] for i, (name, box) in enumerate(HOSTILE.items()) if name not in without]
    return torch.tensor(rows, dtype=dtype)


def boxes_on_the_boundary(points: int, aligned: bool, dtype: torch.dtype) -> Tensor:
    """Two boxes of 3 x 3 cells on the same map: the first points lie at -1, -1; the last ones at H, W.

    Points are two pixels apart, so that no place is rounded in float32.
    """
    length = 3 * points * 2
    starts = torch.tensor([[-2, -2], [24 + 1 - length, 20 + 1 - length]], dtype=dtype)
    corners = torch.cat([starts, starts + length], dim=1) + (0.5 if aligned else 0.0)
    return torch.cat([torch.tensor([[0], [1]], dtype=dtype), corners * 2], dim=1)


def random_boxes(count: int, images: int, extent: float, seed: int = 0) -> Tensor:
    numbers = torch.rand(count, 5, generator=torch.Generator().manual_seed(seed))
    corners = numbers[:, 1:3] * extent
    return torch.cat([(numbers[:, :1] * images).floor(), corners, corners + numbers[:, 3:].square() * extent], dim=1)


def exact_copy(features: Tensor) -> Tensor:
    """A leaf with the same numbers in the same memory format, of a type that torchvision's CPU operator takes."""
    return (features.float() if features.dtype == torch.bfloat16 else features).detach().requires_grad_()


def assert_close(found: Tensor, expected: Tensor, slack: float = 0.0) -> None:
    """`found` within its own type's tolerance, and some absolute slack, of a result of at least float32."""
    atol, rtol = TOLERANCE[found.dtype] + slack, ROUNDING.get(found.dtype, 0.0)
    torch.testing.assert_close(found.to(expected.dtype), expected, atol=atol, rtol=rtol)


def assert_parity(
    ours: Tensor,
    maps: Sequence[Tensor],
    theirs: Tensor,
    exact_maps: Sequence[Tensor],
    gradient_slack: float = 0.0,
) -> None:
    """Equal values, and equal gradients in the maps each was pooled from."""
    assert ours.dtype == maps[0].dtype
    assert_close(ours, theirs)
    gradient = noise(*theirs.shape, seed=1, dtype=ours.dtype)
    found = torch.autograd.grad(ours, maps, gradient)
    expected = torch.autograd.grad(theirs, exact_maps, gradient.to(theirs.dtype))
    for map_, found_gradient, expected_gradient in zip(maps, found, expected, strict=True):
        assert found_gradient.dtype == map_.dtype
        assert_close(found_gradient, expected_gradient, gradient_slack)

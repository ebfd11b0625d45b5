"""RoIAlign over FPN levels: the order of its rows, and parity with torchvision, forward and backward."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from src.ops.roi_align import feature_rows, gather_stencil, multiscale_roi_align, multiscale_stencil
from tests.ops.rois import INVERTED, TOLERANCE, assert_parity, exact_copy, hostile_boxes, noise


def levels_of(
    dtype: torch.dtype = torch.float32, memory: torch.memory_format = torch.contiguous_format
) -> list[Tensor]:
    shapes = [(3, 4, 160 // 2**i, 192 // 2**i) for i in range(4)]
    return [noise(*s, seed=i, dtype=dtype).contiguous(memory_format=memory) for i, s in enumerate(shapes)]


def mixed_boxes() -> Tensor:
    """Small and large boxes in turns: consecutive rows are on different levels."""
    sides = [30, 300, 120, 600, 250, 40, 500, 130]
    return torch.tensor([[i % 2, 3.0 * i, 2.0 * i, 3.0 * i + s, 2.0 * i + 0.9 * s] for i, s in enumerate(sides)])


def test_multiscale_rows_are_in_proposal_order() -> None:
    maps = [torch.full((2, 1, 160 // 2**i, 192 // 2**i), float(i + 2)) for i in range(4)]
    pooled = multiscale_roi_align(maps, mixed_boxes(), 7, [4, 8, 16, 32])
    assert [round(float(v)) for v in pooled.amax(dim=(1, 2, 3))] == [2, 4, 3, 5, 4, 2, 5, 3]
    backwards = multiscale_roi_align(maps, mixed_boxes().flip(0), 7, [4, 8, 16, 32])
    assert torch.equal(backwards, pooled.flip(0))


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("points", [2, -1])
def test_multiscale_parity_with_torchvision(points: int, dtype: torch.dtype, memory: torch.memory_format) -> None:
    """Without inverted boxes, which torchvision puts on other levels, or none.

    Adaptive points take boxes with the same number of them together, and a bfloat16 map adds the groups' gradients up.
    """
    maps = [m.requires_grad_() for m in levels_of(dtype, memory)]
    exact_maps = [exact_copy(m) for m in maps]
    hostile = hostile_boxes(torch.float64, without=INVERTED if points > 0 else (*INVERTED, "huge"))
    hostile[:, 1:] *= 8
    boxes = torch.cat([mixed_boxes(), hostile]).to(exact_maps[0].dtype)
    grouped = boxes[boxes[:, 0].argsort(stable=True)]
    theirs = MultiScaleRoIAlign(["2", "3", "4", "5"], 5, points)
    by_image = [boxes[boxes[:, 0] == image, 1:] for image in range(3)]
    expected = theirs({str(i + 2): m for i, m in enumerate(exact_maps)}, by_image, [(640, 768)] * 3)
    found = multiscale_roi_align(maps, grouped, 5, [4, 8, 16, 32], points, aligned=False)
    slack = 1e-3 if dtype == torch.bfloat16 and points < 0 else 0.0
    assert_parity(found, maps, expected, exact_maps, gradient_slack=slack)


def test_multiscale_stencil_gathers_the_same() -> None:
    maps, boxes = levels_of(), mixed_boxes()
    rows = torch.cat([feature_rows(m) for m in maps])
    stencil = multiscale_stencil(boxes, [(m.shape[2], m.shape[3]) for m in maps], [4, 8, 16, 32], 3, (3, 2))
    found = gather_stencil(rows, stencil).reshape(8, 3, 2, 4).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, multiscale_roi_align(maps, boxes, (3, 2), [4, 8, 16, 32]))


@pytest.mark.parametrize("points", [2, 0, -1])
def test_multiscale_without_boxes(points: int) -> None:
    maps = [m.requires_grad_() for m in levels_of()]
    pooled = multiscale_roi_align(maps, torch.zeros(0, 5), 7, [4, 8, 16, 32], points)
    assert pooled.shape == (0, 4, 7, 7)
    assert not any(gradient.any() for gradient in torch.autograd.grad(pooled.sum(), maps))


def test_multiscale_with_one_level_used() -> None:
    maps = [m.requires_grad_() for m in levels_of()]
    pooled = multiscale_roi_align(maps, mixed_boxes()[:1], 7, [4, 8, 16, 32])
    gradients = torch.autograd.grad(pooled.sum(), maps)
    assert [bool(g.any()) for g in gradients] == [True, False, False, False]


@pytest.mark.parametrize("points", [2, 0])
def test_a_box_that_is_no_number_pools_nothing_and_moves_no_row(points: int) -> None:
    maps, boxes = levels_of(), mixed_boxes()
    broken = boxes.clone()
    broken[2, 3] = math.nan
    expected = multiscale_roi_align(maps, boxes, 2, [4, 8, 16, 32], points)
    expected[2] = 0
    assert torch.equal(multiscale_roi_align(maps, broken, 2, [4, 8, 16, 32], points), expected)


@pytest.mark.parametrize("points", [2, 0])
@pytest.mark.parametrize("strides", [[4, 8, 16], [4, 8, 16, 32, 64]])
def test_multiscale_refuses_another_number_of_strides(strides: list[int], points: int) -> None:
    with pytest.raises(ValueError, match=r"strides|zip"):
        multiscale_roi_align(levels_of(), mixed_boxes(), 7, strides, points)

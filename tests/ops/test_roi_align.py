"""RoIAlign against plain loops and against torchvision, forward and backward, and over FPN levels."""

import itertools
import math

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from src.ops.roi_align import (
    feature_rows,
    gather_stencil,
    multiscale_roi_align,
    multiscale_stencil,
    roi_align,
    roi_stencil,
)

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}

# On a 20 x 24 map at scale 1/2, i.e. a picture of 48 x 40 pixels.
HOSTILE = {
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


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def hostile_boxes(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor([[i % 3, *box] for i, box in enumerate(HOSTILE.values())], dtype=dtype)


def random_boxes(count: int, images: int, extent: float, seed: int = 0) -> Tensor:
    numbers = torch.rand(count, 5, generator=torch.Generator().manual_seed(seed))
    corners = numbers[:, 1:3] * extent
    return torch.cat([(numbers[:, :1] * images).floor(), corners, corners + numbers[:, 3:].square() * extent], dim=1)


def bilinear(plane: list[list[float]], y: float, x: float) -> float:
    height, width = len(plane), len(plane[0])
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    total = 0.0
    for row, column in itertools.product((top, top + 1), (left, left + 1)):
        weight = max(1 - abs(y - row), 0) * max(1 - abs(x - column), 0)
        if weight > 0:
            total += weight * plane[row][column]
    return total


def plain_roi_align(features: Tensor, boxes: Tensor, size: int, scale: float, *, points: int, aligned: bool) -> Tensor:
    """The definition: the mean of points x points places in each cell, one at a time, in float64."""

    def places(start: float, length: float, cell: int) -> list[float]:
        side = length / size  # in torchvision's order, which decides about points exactly on the border
        return [start + cell * side + (step + 0.5) * side / points for step in range(points)]

    result = torch.zeros(len(boxes), features.shape[1], size, size, dtype=torch.float64)
    planes = features.tolist()
    for r, (image, *box) in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = (v * scale - (0.5 if aligned else 0.0) for v in box)
        width, height = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1), max(y2 - y1, 1))
        for c, row, column in itertools.product(range(features.shape[1]), range(size), range(size)):
            points_of_cell = itertools.product(places(y1, height, row), places(x1, width, column))
            values = [bilinear(planes[int(image)][c], y, x) for y, x in points_of_cell]
            result[r, c, row, column] = sum(values) / points**2
    return result


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("points", [1, 2, 3])
@pytest.mark.parametrize("scale", [0.5, 0.3])
@pytest.mark.parametrize("dtype", [*TOLERANCE, torch.bfloat16])
def test_against_plain_loops(dtype: torch.dtype, scale: float, points: int, aligned: bool) -> None:
    """bfloat16 within the rounding of its result.

    Boxes are float32 there, which is too coarse for two of them: torchvision, which rounds alike, is their measure.
    """
    features, boxes = noise(3, 2, 20, 24, dtype=dtype), hostile_boxes(torch.float64)
    if dtype != torch.float64:
        boxes = boxes[[name not in {"huge", "points exactly on the boundary rule"} for name in HOSTILE]].float()
    expected = plain_roi_align(features, boxes, 3, scale, points=points, aligned=aligned)
    found = roi_align(features, boxes, 3, scale, points, aligned)
    assert found.dtype == dtype
    rounding = 2**-8 if dtype == torch.bfloat16 else 0.0
    torch.testing.assert_close(found.double(), expected, atol=TOLERANCE.get(dtype, 1e-4), rtol=rounding)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize(("size", "points"), [(7, 2), ((5, 3), 2), (4, 1), (4, 3), (3, 4)])
def test_parity_forward_and_backward(
    memory: torch.memory_format, aligned: bool, dtype: torch.dtype, size: int | tuple[int, int], points: int
) -> None:
    boxes = torch.cat([hostile_boxes(dtype), random_boxes(60, 3, 60).to(dtype)])
    features = noise(3, 5, 20, 24, dtype=dtype).contiguous(memory_format=memory).requires_grad_()
    ours = roi_align(features, boxes, size, 0.5, points, aligned)
    theirs = torchvision.ops.roi_align(features, boxes, size, 0.5, points, aligned)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE[dtype], rtol=0)
    weights = noise(*theirs.shape, seed=1, dtype=dtype)
    ours_gradient, theirs_gradient = (torch.autograd.grad((o * weights).sum(), features)[0] for o in (ours, theirs))
    torch.testing.assert_close(ours_gradient, theirs_gradient, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("points", [0, -1])
def test_parity_of_adaptive_points(points: int, aligned: bool) -> None:
    """Without inverted boxes: for those torchvision asks for a vector of negative length."""
    names = [name for name in HOSTILE if "inverted" not in name and name != "huge"]
    boxes = hostile_boxes(torch.float64)[[list(HOSTILE).index(name) for name in names]]
    features = noise(3, 4, 20, 24, dtype=torch.float64).requires_grad_()
    ours = roi_align(features, boxes, (2, 3), 0.5, points, aligned)
    theirs = torchvision.ops.roi_align(features, boxes, (2, 3), 0.5, points, aligned)
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)
    gradients = [torch.autograd.grad(o.square().sum(), features)[0] for o in (ours, theirs)]
    torch.testing.assert_close(*gradients, atol=1e-9, rtol=0)


def test_adaptive_points_of_a_huge_box_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    features, boxes = noise(1, 2, 20, 24), torch.tensor([[0.0, -50, -40, 90, 80]]).repeat(5, 1)
    whole = roi_align(features, boxes, 2, 1.0, 0)
    monkeypatch.setattr("src.ops.roi_align.LARGEST_STENCIL", 1)
    assert torch.equal(roi_align(features, boxes, 2, 1.0, 0), whole)
    assert not roi_align(features, boxes[:, [0, 3, 4, 1, 2]], 2, 1.0, 0).any()  # inverted: no points at all


box_numbers = st.lists(st.floats(-100, 200, width=32), min_size=4, max_size=4)


@given(
    boxes=st.lists(box_numbers, min_size=1, max_size=5),
    size=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    scale=st.floats(1 / 64, 4),
    points=st.integers(1, 4),
    aligned=st.booleans(),
)
def test_parity_for_any_boxes_maps_and_scales(
    boxes: list[list[float]], size: tuple[int, int], scale: float, points: int, aligned: bool
) -> None:
    features = noise(2, 2, *size, dtype=torch.float64)
    rois = torch.tensor([[number % 2, *box] for number, box in enumerate(boxes)], dtype=torch.float64)
    theirs = torchvision.ops.roi_align(features, rois, 3, scale, points, aligned)
    torch.testing.assert_close(roi_align(features, rois, 3, scale, points, aligned), theirs, atol=1e-9, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("points", [2, 0])
def test_no_boxes(dtype: torch.dtype, points: int) -> None:
    features = noise(2, 3, 8, 8, dtype=dtype).requires_grad_()
    pooled = roi_align(features, torch.zeros(0, 5), 7, 0.25, points)
    assert pooled.shape == (0, 3, 7, 7)
    assert pooled.dtype == dtype
    if points:
        assert not torch.autograd.grad(pooled.sum(), features)[0].any()


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_bf16_is_rounded_once(memory: torch.memory_format) -> None:
    """Sums in float32 of exact bf16 features: half a unit in the last place, 2^-9, and nothing on top."""
    features = noise(3, 16, 20, 24, dtype=torch.bfloat16).contiguous(memory_format=memory)
    boxes = torch.cat([hostile_boxes(), random_boxes(200, 3, 60)])
    exact = roi_align(features.float(), boxes, 7, 0.5)
    found = roi_align(features, boxes, 7, 0.5)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, atol=2e-4, rtol=2**-8)


def test_bf16_gradient() -> None:
    features = noise(2, 8, 20, 24, dtype=torch.bfloat16).requires_grad_()
    wide = features.detach().float().requires_grad_()
    boxes = random_boxes(60, 2, 60)
    gradient = noise(60, 8, 7, 7, seed=1, dtype=torch.bfloat16)
    roi_align(features, boxes, 7, 0.5).backward(gradient)
    roi_align(wide, boxes, 7, 0.5).backward(gradient.float())
    assert features.grad is not None
    assert wide.grad is not None
    torch.testing.assert_close(features.grad.float(), wide.grad, atol=2e-3, rtol=2**-7)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("points", [1, 2, 3, 0])
def test_gradcheck(points: int, aligned: bool) -> None:
    boxes = torch.tensor([[0, -1, 0.5, 3, 4], [1, 2, 2, 9, 7], [1, 3, 3, 3, 3]], dtype=torch.float64)
    features = noise(2, 1, 4, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: roi_align(f, boxes, 2, 0.8, points, aligned), features)


@given(
    factor=st.sampled_from([0.5, 2.0, 3.0]),
    box=st.tuples(st.floats(2, 8), st.floats(2, 8), st.floats(1, 6), st.floats(1, 6)),
    slopes=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
)
def test_it_follows_a_resized_picture(
    factor: float, box: tuple[float, float, float, float], slopes: tuple[float, float]
) -> None:
    """A resized picture with resized boxes pools to the same values: exact for planes, by pixel centres."""

    def plane(scale: float) -> Tensor:
        y, x = ((torch.arange(int(n * scale), dtype=torch.float64) + 0.5) / scale for n in (18, 20))
        return (slopes[0] * y[:, None] + slopes[1] * x)[None, None]

    x, y, width, height = box
    roi = torch.tensor([[0.0, x, y, x + width, y + height]], dtype=torch.float64)
    resized = torch.cat([roi[:, :1], factor * roi[:, 1:]], dim=1)
    found = [
        roi_align(plane(1), roi, 4),
        roi_align(plane(factor), resized, 4),
        roi_align(plane(factor), roi, 4, factor),
    ]
    torch.testing.assert_close(found[1], found[0], atol=1e-9, rtol=0)
    torch.testing.assert_close(found[2], found[0], atol=1e-9, rtol=0)


def test_views_that_are_not_contiguous() -> None:
    wide, boxes = noise(3, 10, 20, 48), torch.cat([hostile_boxes(), random_boxes(20, 3, 60)])
    features = wide[:, ::2, :, ::2]
    assert not features.is_contiguous()
    spread = torch.stack([boxes, boxes], dim=1)[:, 0]
    theirs = torchvision.ops.roi_align(features.contiguous(), boxes, 3, 0.5, 2, True)
    torch.testing.assert_close(roi_align(features, spread, 3, 0.5), theirs, atol=1e-4, rtol=0)


def test_x_and_y_keep_apart() -> None:
    """On a map that only grows along one axis, cells grow along it; swapped axes or scales would show."""
    along_x, along_y = torch.arange(24.0).expand(20, 24), torch.arange(20.0)[:, None].expand(20, 24)
    pooled = roi_align(torch.stack([along_x, along_y])[None], torch.tensor([[0.0, 8, 4, 32, 20]]), (2, 3), 0.5)[0]
    torch.testing.assert_close(pooled[0], torch.tensor([[5.5, 9.5, 13.5]]).expand(2, 3))
    torch.testing.assert_close(pooled[1], torch.tensor([[3.5], [7.5]]).expand(2, 3))


def test_box_coordinates_are_not_truncated() -> None:
    features = torch.arange(24.0).expand(1, 1, 20, 24)
    values = [roi_align(features, torch.tensor([[0, 4 + d, 4, 8 + d, 8]]), 1)[0, 0, 0, 0] for d in (0.0, 0.25, 0.5)]
    assert [float(v - values[0]) for v in values] == pytest.approx([0, 0.25, 0.5])


def test_channels_last_features_are_not_copied() -> None:
    features = noise(2, 3, 5, 6).contiguous(memory_format=torch.channels_last)
    assert feature_rows(features).data_ptr() == features.data_ptr()
    assert roi_align(features, random_boxes(4, 2, 5), 2).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(feature_rows(features)[30 + 6 + 2], features[1, :, 1, 2])
    torch.testing.assert_close(feature_rows(features.contiguous()), feature_rows(features))


def test_gradients_repeat_to_the_bit() -> None:
    boxes, gradients = random_boxes(50, 1, 60), []
    for _ in range(2):
        features = noise(1, 4, 30, 30).requires_grad_()
        gradients.append(torch.autograd.grad(roi_align(features, boxes, 7, 0.5).square().sum(), features)[0])
    assert torch.equal(*gradients)


def levels_of(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [noise(2, 4, 160 // 2**i, 192 // 2**i, seed=i, dtype=dtype) for i in range(4)]


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


@pytest.mark.parametrize("points", [2, -1])
def test_multiscale_parity_with_torchvision(points: int) -> None:
    maps = [m.requires_grad_() for m in levels_of(torch.float64)]
    boxes = mixed_boxes().double()
    theirs = MultiScaleRoIAlign(["2", "3", "4", "5"], 5, points)
    by_image = [boxes[boxes[:, 0] == image, 1:] for image in (0, 1)]
    expected = theirs({str(i + 2): m for i, m in enumerate(maps)}, by_image, [(640, 768)] * 2)
    grouped = boxes[boxes[:, 0].argsort(stable=True)]
    found = multiscale_roi_align(maps, grouped, 5, [4, 8, 16, 32], points, aligned=False)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)
    for ours, other in zip(*(torch.autograd.grad(o.square().sum(), maps) for o in (found, expected)), strict=True):
        torch.testing.assert_close(ours, other, atol=1e-9, rtol=0)


def test_multiscale_stencil_gathers_the_same() -> None:
    maps, boxes = levels_of(), mixed_boxes()
    rows = torch.cat([feature_rows(m) for m in maps])
    stencil = multiscale_stencil(boxes, [tuple(m.shape[2:]) for m in maps], [4, 8, 16, 32], 2, (3, 2))
    found = gather_stencil(rows, stencil).reshape(8, 3, 2, 4).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, multiscale_roi_align(maps, boxes, (3, 2), [4, 8, 16, 32]))


def test_multiscale_without_boxes_or_with_one_level_used() -> None:
    maps = [m.requires_grad_() for m in levels_of()]
    assert multiscale_roi_align(maps, torch.zeros(0, 5), 7, [4, 8, 16, 32]).shape == (0, 4, 7, 7)
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


@pytest.mark.parametrize("image", [-1.0, 3.0])
@pytest.mark.parametrize("points", [2, 0])
def test_an_image_outside_the_batch_is_refused(image: float, points: int) -> None:
    """Also of a box without extent, which takes no points of its own choice."""
    with pytest.raises(ValueError, match=r"0\.\.2"):
        roi_align(noise(3, 2, 8, 8), torch.tensor([[image, 4, 4, 4, 4]]), 2, 1.0, points)


def test_multiscale_refuses_a_missing_stride() -> None:
    with pytest.raises(ValueError, match="zip"):
        multiscale_roi_align(levels_of(), mixed_boxes(), 7, [4, 8, 16])


def test_stencil_boxes_in_half_precision_are_widened() -> None:
    """Proposals that come out of mixed precision: the geometry is still float32."""
    boxes = random_boxes(6, 1, 60).bfloat16()
    stencil = roi_stencil(boxes, (20, 24), 1, 3, 0.3)
    torch.testing.assert_close(stencil.weights, roi_stencil(boxes.float(), (20, 24), 1, 3, 0.3).weights)
    assert not math.isnan(float(stencil.weights.sum()))

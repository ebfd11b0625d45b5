"""RoIAlign of one feature map against plain loops and against torchvision, forward and backward."""

import itertools

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from src.ops.roi_align import feature_rows, roi_align
from tests.ops.rois import (
    INVERTED,
    TOLERANCE,
    assert_close,
    assert_parity,
    boxes_on_the_boundary,
    exact_copy,
    hostile_boxes,
    noise,
    random_boxes,
)


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
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_against_plain_loops(dtype: torch.dtype, scale: float, points: int, aligned: bool) -> None:
    """Boxes in float32 are too coarse for two of them: torchvision, which rounds alike, is their measure."""
    features, boxes = noise(3, 2, 20, 24, dtype=dtype), hostile_boxes(torch.float64)
    if dtype != torch.float64:
        boxes = hostile_boxes(without=("huge", "points exactly on the boundary rule"))
    expected = plain_roi_align(features, boxes, 3, scale, points=points, aligned=aligned)
    found = roi_align(features, boxes, 3, scale, points, aligned)
    assert found.dtype == dtype
    assert_close(found, expected)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("points", [1, 2, 3])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_points_exactly_on_the_boundary_count(dtype: torch.dtype, points: int, aligned: bool) -> None:
    """A point at -1, H or W counts as one at the border pixel, in any type: no number here is rounded."""
    features = noise(2, 2, 20, 24, dtype=dtype)
    exact = exact_copy(features)
    boxes = boxes_on_the_boundary(points, aligned, exact.dtype)
    found = roi_align(features, boxes, 3, 0.5, points, aligned)
    assert_close(found, plain_roi_align(features, boxes, 3, 0.5, points=points, aligned=aligned))
    assert_close(found, torchvision.ops.roi_align(exact, boxes, 3, 0.5, points, aligned))


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize(("size", "points"), [(7, 2), ((5, 3), 2), (4, 1), (4, 3), (3, 4)])
def test_parity_forward_and_backward(
    memory: torch.memory_format, aligned: bool, dtype: torch.dtype, size: int | tuple[int, int], points: int
) -> None:
    features = noise(3, 5, 20, 24, dtype=dtype).contiguous(memory_format=memory).requires_grad_()
    exact = exact_copy(features)
    boxes = torch.cat([hostile_boxes(exact.dtype), random_boxes(60, 3, 60).to(exact.dtype)])
    ours = roi_align(features, boxes, size, 0.5, points, aligned)
    theirs = torchvision.ops.roi_align(exact, boxes, size, 0.5, points, aligned)
    assert_parity(ours, [features], theirs, [exact])


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("points", [0, -1])
def test_parity_of_adaptive_points(points: int, aligned: bool) -> None:
    """Without inverted boxes: for those torchvision asks for a vector of negative length."""
    boxes = hostile_boxes(torch.float64, without=(*INVERTED, "huge"))
    features = noise(3, 4, 20, 24, dtype=torch.float64).requires_grad_()
    ours = roi_align(features, boxes, (2, 3), 0.5, points, aligned)
    theirs = torchvision.ops.roi_align(features, boxes, (2, 3), 0.5, points, aligned)
    assert_parity(ours, [features], theirs, [features])


def test_adaptive_points_of_a_huge_box_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    features, boxes = noise(1, 2, 20, 24), torch.tensor([[0.0, -50, -40, 90, 80]]).repeat(5, 1)
    whole = roi_align(features, boxes, 2, 1.0, 0)
    monkeypatch.setattr("src.ops.roi_align.LARGEST_STENCIL", 1)
    assert torch.equal(roi_align(features, boxes, 2, 1.0, 0), whole)


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


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("points", [2, 0, -1])
def test_no_boxes(dtype: torch.dtype, points: int) -> None:
    features = noise(2, 3, 8, 8, dtype=dtype).requires_grad_()
    pooled = roi_align(features, torch.zeros(0, 5), 7, 0.25, points)
    assert pooled.shape == (0, 3, 7, 7)
    assert pooled.dtype == dtype
    assert not torch.autograd.grad(pooled.sum(), features)[0].any()


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("points", [0, -1])
def test_adaptive_points_of_boxes_without_extent(dtype: torch.dtype, points: int) -> None:
    """No points at all: zeros, through which a gradient of zeros flows back."""
    features = noise(2, 3, 20, 24, dtype=dtype).requires_grad_()
    boxes = torch.tensor([[0.0, 30, 32, 5, 6], [1, 30, 6, 5, 32], [1, 10, 10, 10, 30], [0, 9, 9, 9, 9]])
    pooled = roi_align(features, boxes, 2, 0.5, points)
    assert pooled.dtype == dtype
    assert not pooled.any()
    assert not torch.autograd.grad(pooled.sum(), features)[0].any()


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_bf16_is_rounded_once(memory: torch.memory_format) -> None:
    """Sums in float32 of exact bf16 features: half a unit in the last place, 2^-8, and nothing on top."""
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
    """A resized picture with resized boxes pools to the same values: exact for planes, by pixel centers."""

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


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_views_that_are_not_contiguous(dtype: torch.dtype) -> None:
    features = noise(3, 10, 20, 48, dtype=dtype)[:, ::2, :, ::2].requires_grad_()
    exact = exact_copy(features.contiguous())
    boxes = torch.cat([hostile_boxes(exact.dtype), random_boxes(20, 3, 60).to(exact.dtype)])
    spread = torch.stack([boxes, boxes], dim=1)[:, 0]
    assert not features.is_contiguous()
    assert not spread.is_contiguous()
    theirs = torchvision.ops.roi_align(exact, boxes, 3, 0.5, 2, True)
    assert_parity(roi_align(features, spread, 3, 0.5), [features], theirs, [exact])


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_a_gradient_without_memory_of_its_own(dtype: torch.dtype) -> None:
    """A sum's gradient is one number, repeated with strides of 0."""
    features, boxes = noise(3, 5, 20, 24, dtype=dtype).requires_grad_(), random_boxes(20, 3, 60)
    exact = exact_copy(features)
    boxes = boxes.to(exact.dtype)
    (found,) = torch.autograd.grad(roi_align(features, boxes, 3, 0.5).sum(), features)
    (expected,) = torch.autograd.grad(torchvision.ops.roi_align(exact, boxes, 3, 0.5, 2, True).sum(), exact)
    assert_close(found, expected)


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


@pytest.mark.parametrize("image", [-1.0, 3.0])
@pytest.mark.parametrize("points", [2, 0])
def test_an_image_outside_the_batch_is_refused(image: float, points: int) -> None:
    """Also of a box without extent, which takes no points of its own choice."""
    with pytest.raises(ValueError, match=r"0\.\.2"):
        roi_align(noise(3, 2, 8, 8), torch.tensor([[image, 4, 4, 4, 4]]), 2, 1.0, points)

"""Boxes against plain loops, torchvision, and the properties that deltas must have."""

import math

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from src.ops.boxes import box_area, box_iou, clip, decode, encode, intersection_over_area, is_inside, is_not_empty

CONTENT = (11.0, 0.0, 1077.0, 800.0)

coordinate = st.floats(-200, 1300, width=32)
side = st.floats(0.5, 900, width=32)


@st.composite
def proper_boxes(draw: st.DrawFn, count: int = 4) -> Tensor:
    rows = [(draw(coordinate), draw(coordinate), draw(side), draw(side)) for _ in range(count)]
    x, y, w, h = torch.tensor(rows).unbind(1)
    return torch.stack([x, y, x + w, y + h], dim=1)


def random_boxes(count: int, seed: int) -> Tensor:
    corner, sides = torch.rand(2, count, 2, generator=torch.Generator().manual_seed(seed)) * 100
    return torch.cat([corner, corner + sides], dim=1)


def plain_iou(a: list[float], b: list[float]) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    both = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union


def test_iou_against_a_plain_loop_and_torchvision() -> None:
    a, b = random_boxes(7, 1), random_boxes(5, 2)
    expected = torch.tensor([[plain_iou(p, q) for q in b.tolist()] for p in a.tolist()])
    torch.testing.assert_close(box_iou(a, b), expected)
    torch.testing.assert_close(box_iou(a, b), torchvision.ops.box_iou(a, b))
    torch.testing.assert_close(box_area(a), torchvision.ops.box_area(a))


@given(proper_boxes(), proper_boxes())
def test_iou_is_symmetric_bounded_and_one_with_itself(a: Tensor, b: Tensor) -> None:
    iou = box_iou(a, b)
    assert ((iou >= 0) & (iou <= 1 + 1e-5)).all()
    torch.testing.assert_close(iou, box_iou(b, a).T)
    torch.testing.assert_close(box_iou(a, a).diagonal(), torch.ones(4))


def test_empty_and_inverted_boxes_overlap_nothing() -> None:
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 9], [8, 8, 2, 2], [0, 0, 10, 10]])
    assert box_area(boxes).tolist() == [0, 0, 0, 100]
    expected = torch.zeros(4, 4)
    expected[3, 3] = 1
    assert torch.equal(box_iou(boxes, boxes), expected)
    assert torch.equal(intersection_over_area(boxes, boxes), expected)


def test_no_boxes_give_empty_matrices() -> None:
    none, some = torch.zeros(0, 4), random_boxes(3, 0)
    assert box_iou(none, some).shape == (0, 3)
    assert box_iou(some, none).shape == (3, 0)
    assert encode(none, none).shape == (0, 4)
    assert decode(torch.zeros(0, 16), none).shape == (0, 16)
    assert clip(none, CONTENT).shape == (0, 4)


def test_intersection_over_area_divides_by_the_first_box() -> None:
    box, crowd = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, 0, 1000, 1000], [20, 20, 30, 30]])
    assert intersection_over_area(box, crowd).tolist() == [[0.5, 0.0]]


@given(proper_boxes(), proper_boxes())
def test_decode_is_the_inverse_of_encode(boxes: Tensor, anchors: Tensor) -> None:
    boxes, anchors = boxes.double(), anchors.double()
    deltas = encode(boxes, anchors)
    reachable = (deltas[:, 2:] <= math.log(1000 / 16)).all(dim=1)  # beyond, decode cuts off on purpose
    torch.testing.assert_close(decode(deltas, anchors)[reachable], boxes[reachable], atol=1e-6, rtol=1e-9)


@given(proper_boxes(), st.lists(st.floats(-3, 3, width=32), min_size=16, max_size=16))
def test_encode_is_the_inverse_of_decode(anchors: Tensor, numbers: list[float]) -> None:
    anchors, deltas = anchors.double(), torch.tensor(numbers).double().reshape(4, 4)
    torch.testing.assert_close(encode(decode(deltas, anchors), anchors), deltas, atol=1e-6, rtol=1e-6)


def test_deltas_are_of_centers_not_corners() -> None:
    anchor = torch.tensor([[10.0, 20, 30, 60]])  # center 20, 40
    same_corner = torch.tensor([[10.0, 20, 50, 40]])  # center 30, 30: the corner alone would give 0, 0
    expected = [10 / 20, -10 / 40, math.log(40 / 20), math.log(20 / 40)]
    assert encode(same_corner, anchor)[0].tolist() == pytest.approx(expected)
    same_center = torch.tensor([[15.0, 35, 25, 45]])
    assert encode(same_center, anchor)[0, :2].tolist() == [0, 0]


def test_encode_and_decode_agree_with_torchvision() -> None:
    coder = torchvision.models.detection._utils.BoxCoder((1.0, 1.0, 1.0, 1.0))
    boxes, anchors = random_boxes(9, 3), random_boxes(9, 4)
    torch.testing.assert_close(encode(boxes, anchors), coder.encode([boxes], [anchors])[0])
    deltas = torch.randn(9, 16, generator=torch.Generator().manual_seed(5))
    expected = coder.decode_single(deltas, anchors)
    torch.testing.assert_close(decode(deltas, anchors), expected, atol=1e-3, rtol=1e-5)


def test_decode_keeps_the_groups_of_classes_apart() -> None:
    anchors = random_boxes(6, 6)
    deltas = torch.randn(6, 12, generator=torch.Generator().manual_seed(7))
    together = decode(deltas, anchors)
    for group in range(3):
        chosen = slice(4 * group, 4 * group + 4)
        torch.testing.assert_close(together[:, chosen], decode(deltas[:, chosen], anchors))


def test_decode_does_not_overflow() -> None:
    box = decode(torch.tensor([[0.0, 0, 1000, 1000]]), torch.tensor([[0.0, 0, 16, 16]]))
    assert (box[0, 2:] - box[0, :2]).tolist() == pytest.approx([1000, 1000])


@pytest.mark.parametrize("bad", [[5.0, 5, 5, 9], [9, 9, 5, 12], [0, 0, math.nan, 9]])
def test_encode_refuses_degenerate_boxes(bad: list[float]) -> None:
    good = torch.tensor([[0.0, 0, 9, 9], [1, 1, 5, 5]])
    degenerate = good.clone()
    degenerate[1] = torch.tensor(bad)
    with pytest.raises(ValueError, match=r"anchors\[1\]"):
        encode(good, degenerate)
    with pytest.raises(ValueError, match=r"boxes\[1\]"):
        encode(degenerate, good)


def test_decode_refuses_ragged_rows() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        decode(torch.zeros(2, 6), random_boxes(2, 8))


def test_clip_uses_the_picture_not_the_padded_canvas() -> None:
    boxes = torch.tensor([[0.0, -5, 1088, 900], [20, 30, 40, 50], [-9, -9, -1, -1]])
    assert clip(boxes, CONTENT).tolist() == [[11, 0, 1077, 800], [20, 30, 40, 50], [11, 0, 11, 0]]
    assert torch.equal(clip(boxes, torch.tensor(CONTENT)), clip(boxes, CONTENT))
    assert clip(boxes.reshape(1, 3, 4), CONTENT).shape == (1, 3, 4)


any_boxes = st.lists(st.lists(coordinate, min_size=4, max_size=4), min_size=1, max_size=4)


@given(any_boxes)
def test_clip_against_a_plain_loop(boxes: list[list[float]]) -> None:
    expected = [
        [min(max(value, low), high) for value, low, high in zip(box, CONTENT[:2] * 2, CONTENT[2:] * 2, strict=True)]
        for box in boxes
    ]
    assert clip(torch.tensor(boxes), CONTENT).tolist() == expected


@given(any_boxes, st.integers(0, 1100), st.integers(0, 1100))
def test_clip_to_a_picture_at_the_origin_agrees_with_torchvision(
    boxes: list[list[float]], height: int, width: int
) -> None:
    theirs = torchvision.ops.clip_boxes_to_image(torch.tensor(boxes), (height, width))
    assert torch.equal(clip(torch.tensor(boxes), (0, 0, width, height)), theirs)


@given(proper_boxes())
def test_clipped_boxes_are_inside(boxes: Tensor) -> None:
    clipped = clip(boxes, CONTENT)
    assert is_inside(clipped, CONTENT).all()
    unchanged = is_inside(boxes, CONTENT)
    assert torch.equal(clipped[unchanged], boxes[unchanged])


def test_a_box_on_the_border_is_inside() -> None:
    boxes = torch.tensor([[11.0, 0, 1077, 800], [10.9, 0, 20, 20], [20, 20, 1077.1, 30], [20, 20, 30, 800.1]])
    assert is_inside(boxes, CONTENT).tolist() == [True, False, False, False]
    assert is_inside(boxes, (11, 0, 1077, 800)).tolist() == [True, False, False, False]


def test_is_not_empty_wants_both_sides() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3.9], [4, 4, 0, 9], [0, 0, 0, 9], [0, 0, math.nan, 9]])
    assert is_not_empty(boxes, 4).tolist() == [True, False, False, False, False]
    assert is_not_empty(boxes, 0).tolist() == [True, True, False, False, False]


def test_shapes_are_checked() -> None:
    with pytest.raises(TypeCheckError):
        box_area(torch.zeros(3, 5))

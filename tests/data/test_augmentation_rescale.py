"""Pictures resized where they lie, cropped or laid on gray: against plain loops, and by hand."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from src.core.runtime import generator
from src.data.augmentation import GRAY, rescale
from tests.data.scenes import (
    BOTTOM,
    BOXES,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Box,
    assert_fits,
    boxes_of,
    is_same,
    scene,
    tight,
    with_target,
    without_masks,
)

FACTORS = st.floats(1 / 4, 1) | st.floats(1, 4)
PLACES = st.tuples(st.floats(0, 1), st.floats(0, 1))


@dataclass(frozen=True)
class PlainAxis:
    """Along one axis the pixels from `start` to `end` become `size` pixels from `to` on."""

    start: int
    end: int
    to: int
    size: int

    @classmethod
    def of(cls, first: int, last: int, factor: float, place: float) -> PlainAxis:
        length = last - first
        size = round(length * min(factor, 1 / factor))
        start = first + round(place * (length - size))
        return cls(start, start + size, first, length) if factor > 1 else cls(first, last, start, size)

    def moved(self, value: float) -> float:
        """Where a coordinate goes, beyond the picture too."""
        return self.to + (value - self.start) * self.size / (self.end - self.start)

    def sources(self, number: int) -> list[tuple[int, float]]:
        """The pixels that a new one is made of, and their shares: bilinear, or a mean where the picture shrinks."""
        scale = (self.end - self.start) / self.size
        center = self.start + (number + 0.5) * scale
        tent = {i: 1 - abs(i + 0.5 - center) / max(scale, 1) for i in range(self.start, self.end)}
        total = sum(share for share in tent.values() if share > 0)
        return [(i, share / total) for i, share in tent.items() if share > 0]


def plain_axes(factor: float, place: tuple[float, float]) -> tuple[PlainAxis, PlainAxis]:
    return PlainAxis.of(LEFT, RIGHT, factor, place[0]), PlainAxis.of(TOP, BOTTOM, factor, place[1])


def plain_pixels(planes: Tensor, x: PlainAxis, y: PlainAxis) -> Tensor:
    """Planes [c, h, w] resized, pixel by pixel, unrounded."""
    source, result = planes.numpy().astype(np.float64), np.zeros((len(planes), y.size, x.size))
    for row, column in itertools.product(range(y.size), range(x.size)):
        for (i, share_y), (j, share_x) in itertools.product(y.sources(row), x.sources(column)):
            result[:, row, column] += share_y * share_x * source[:, i, j]
    return torch.from_numpy(result)


@pytest.mark.parametrize("place", [(0.0, 0.0), (0.3, 0.8), (1.0, 0.5)])
@pytest.mark.parametrize("factor", [0.26, 0.5, 0.77, 0.999, 1.001, 1.3, 2.0, 3.7])
def test_pixels_and_masks_are_the_plain_loops(factor: float, place: tuple[float, float]) -> None:
    before = scene([(x, y, x + 12, y + 16) for x in range(LEFT, RIGHT, 12) for y in (TOP, 20)])
    ragged = torch.rand(HEIGHT // 4, WIDTH // 4, generator=generator(1)) > 0.4  # straight borders show less of a filter
    before = with_target(before, masks=before.target.masks & ragged.repeat_interleave(4, 0).repeat_interleave(4, 1))
    found = rescale(before, factor, place)
    x, y = plain_axes(factor, place)
    inside = (..., slice(y.to, y.to + y.size), slice(x.to, x.to + x.size))
    expected = before.image.double()
    expected[:, TOP:BOTTOM, LEFT:RIGHT] = torch.tensor(GRAY)[:, None, None]
    expected[inside] = plain_pixels(before.image, x, y)
    assert (found.image - expected).abs().max() <= 1.01  # rounded once along each axis
    shares = torch.zeros(8, HEIGHT, WIDTH, dtype=torch.float64)
    shares[inside] = plain_pixels(before.target.masks, x, y)
    assert len(found.target.labels) > 0
    shares = shares[found.target.labels - 1]
    sure = (shares - 0.5).abs() > 0.01  # a tie may go either way
    assert sure.float().mean() > 0.95
    assert torch.equal(found.target.masks[sure], shares[sure] > 0.5)


@given(boxes=BOXES, crowd=BOXES, factor=FACTORS, place=PLACES)
def test_boxes_are_the_plain_corners(
    boxes: list[Box], crowd: list[Box], factor: float, place: tuple[float, float]
) -> None:
    """And a quarter decides what is still an object, what is ignored and what is gone."""
    x, y = plain_axes(factor, place)
    labels, whole, regions, remnants = [], [], [], []
    for number, (x1, y1, x2, y2) in enumerate([*boxes, *crowd], start=1):
        a, b, c, d = x.moved(x1), y.moved(y1), x.moved(x2), y.moved(y2)
        box = [max(a, LEFT), max(b, TOP), min(c, RIGHT), min(d, BOTTOM)]
        width, height = box[2] - box[0], box[3] - box[1]
        share = max(width, 0) * max(height, 0) / ((c - a) * (d - b))
        assume(abs(share - 0.25) > 1e-5 and abs(width - 2) > 1e-3 and abs(height - 2) > 1e-3)  # float32 may differ
        if width < 2 or height < 2:
            continue
        if number > len(boxes):
            regions.append(box)
        elif share < 0.25:
            remnants.append(box)
        else:
            labels.append(number)
            whole.append(box)
    target = rescale(scene(boxes, crowd), factor, place).target
    assert target.labels.tolist() == labels
    torch.testing.assert_close(target.boxes, boxes_of(whole), rtol=0, atol=1e-3)
    torch.testing.assert_close(target.crowd, boxes_of(regions + remnants), rtol=0, atol=1e-3)


@given(boxes=BOXES, crowd=BOXES, factor=FACTORS, place=PLACES)
def test_masks_and_boxes_stay_together_and_in_the_picture(
    boxes: list[Box], crowd: list[Box], factor: float, place: tuple[float, float]
) -> None:
    before = scene(boxes, crowd)
    found = rescale(before, factor, place)
    assert_fits(found, before)
    for box, mask in zip(found.target.boxes, found.target.masks, strict=True):
        assert (torch.tensor(tight(mask.nonzero().tolist())) - box).abs().max() <= 1


@given(boxes=BOXES, crowd=BOXES, place=PLACES)
def test_factor_one_changes_nothing(boxes: list[Box], crowd: list[Box], place: tuple[float, float]) -> None:
    before = scene(boxes, crowd)
    assert is_same(rescale(before, 1.0, place), before)


def test_twice_as_large_by_hand() -> None:
    """Of the 48 x 32 pixels those from (18, 20) to (42, 36) are kept: half the way across, and all the way down."""
    before = scene([(20, 22, 30, 30), (18, 24, 22, 27)])
    picture, grid = torch.full((3, HEIGHT, WIDTH), 90, dtype=torch.uint8), before.target.masks[:, 20:36, 18:42]
    picture[:, 22:30, 20:30] = 200
    found = rescale(dataclasses.replace(before, image=picture), 2.0, (0.5, 1.0))
    assert found.target.boxes.tolist() == [[10, 8, 30, 24], [6, 12, 14, 18]]
    assert torch.equal(found.target.masks[:, 4:36, 6:54], grid.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert found.target.masks.sum().item() == 4 * (80 + 12)
    assert (found.image[:, 9:23, 11:29] == 200).all()
    outside = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    outside[7:25, 9:31] = False
    assert (found.image[:, outside] == 90).all()


def test_half_as_large_by_hand() -> None:
    """24 x 16 pixels at (18, 4) on gray: half the way across, and at the top."""
    before = scene([(10, 8, 30, 20)], crowd=[(30, 20, 50, 34)])
    picture = torch.full((3, HEIGHT, WIDTH), 90, dtype=torch.uint8)
    found = rescale(dataclasses.replace(before, image=picture), 0.5, (0.5, 0.0))
    assert found.target.boxes.tolist() == [[20, 6, 30, 12]]
    assert found.target.crowd.tolist() == [[30, 12, 40, 19]]
    assert tight(found.target.masks[0].nonzero().tolist()) == [20, 6, 30, 12]
    region = found.image[:, TOP:BOTTOM, LEFT:RIGHT].clone()
    assert (region[:, :16, 12:36] == 90).all()
    region[:, :16, 12:36] = torch.tensor(GRAY)[:, None, None]
    assert (region == torch.tensor(GRAY)[:, None, None]).all()


def test_what_cropping_leaves_decides_by_hand() -> None:
    """The upper left quarter, x below 30 and y below 20, grows to the whole."""
    objects = [
        (8, 6, 20, 16),  # seen whole
        (24, 6, 36, 16),  # half of it
        (28, 8, 44, 16),  # an eighth: ignored from here on
        (40, 24, 50, 34),  # nothing
        (24, 16, 36, 24),  # a quarter, still an object
        (29.25, 5, 31, 15),  # three sevenths, but thinner than two pixels
    ]
    found = rescale(scene(objects, crowd=[(10, 10, 40, 30), (31, 5, 40, 15)]), 2.0, (0.0, 0.0)).target
    assert found.labels.tolist() == [1, 2, 5]
    assert found.boxes.tolist() == [[10, 8, 34, 28], [42, 8, 54, 28], [42, 28, 54, 36]]
    assert found.crowd.tolist() == [[14, 16, 54, 36], [50, 12, 54, 28]]
    assert [tight(mask.nonzero().tolist()) for mask in found.masks] == found.boxes.tolist()


def test_an_object_of_which_no_pixel_is_left_goes_with_its_box() -> None:
    """The crop shows the upper left corner of its box; the object itself is in the lower right one."""
    whole = scene([(8, 6, 40, 22), (8, 6, 20, 16), (10, 10, 20, 18)])
    whole.target.masks[0] = False
    whole.target.masks[0, 20:22, 34:40] = True
    whole.target.masks[2] = False  # had no pixel before, so it lost none
    found = rescale(whole, 2.0, (0.0, 0.0)).target
    assert found.labels.tolist() == [2, 3]
    assert len(found.crowd) == 0
    assert rescale(without_masks(whole), 2.0, (0.0, 0.0)).target.labels.tolist() == [1, 2, 3]


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.5])
def test_pictures_without_masks_and_without_objects(factor: float) -> None:
    whole = scene([(10, 8, 30, 20)], crowd=[(20, 10, 50, 34)])
    with_masks, found = (rescale(one, factor, (0.4, 0.4)) for one in (whole, without_masks(whole)))
    assert is_same(found, without_masks(with_masks))
    empty = rescale(scene(), factor, (0.4, 0.4))
    assert_fits(empty, scene())
    assert empty.target.boxes.shape == empty.target.crowd.shape == (0, 4)
    assert torch.equal(empty.image, with_masks.image)

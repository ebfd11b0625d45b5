"""Objects of another picture pasted in: pixel by pixel, and what becomes of the objects below them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import torch
from hypothesis import given

from src.core.runtime import generator
from src.data.augmentation import paste
from src.data.letterbox import Letterbox
from src.data.prepared import Example
from tests.data.scenes import (
    ABOVE,
    BOXES,
    HEIGHT,
    SEEDS,
    WIDTH,
    Box,
    assert_fits,
    is_same,
    pasted,
    plain_paste,
    scene,
    tight,
)


@given(boxes=BOXES, crowd=BOXES, others=BOXES, seed=SEEDS)
def test_pasting_is_the_plain_loops(boxes: list[Box], crowd: list[Box], others: list[Box], seed: int) -> None:
    shifted = [(x1 + 0.2, y1 + 0.3, x2 - 0.3, y2 - 0.1) for x1, y1, x2, y2 in boxes]  # boxes need not be tight
    below, above = scene(shifted, crowd, seed=1), scene(others, [(7, 5, 20, 20)], seed=2, first_label=ABOVE)
    untouched = copy.deepcopy((below, above))
    found = paste(below, above, generator(seed))
    chosen = pasted(found)
    assert is_same(found, plain_paste(below, above, chosen) if chosen else below)
    assert_fits(found, below)
    assert is_same(below, untouched[0])
    assert is_same(above, untouched[1])


def test_each_object_is_pasted_in_half_of_all_cases_whatever_the_others_do() -> None:
    above = scene([(x, 8, x + 6, 20) for x in (8, 18, 28, 38)], seed=2, first_label=ABOVE)
    draws = [pasted(paste(scene(), above, generator(seed))) for seed in range(400)]
    assert len(set(map(tuple, draws))) == 16
    assert all(0.4 < sum(number in one for one in draws) / 400 < 0.6 for number in range(4))


def paste_one(objects: Sequence[Box], above: Example, crowd: Sequence[Box] = ()) -> Example:
    """A draw in which the first object of `above` is pasted."""
    results = (paste(scene(objects, crowd), above, generator(seed)) for seed in range(100))
    return next(found for found in results if 0 in pasted(found))


def test_what_pasting_leaves_decides_by_hand() -> None:
    objects = [
        (10, 10, 30, 20),  # loses its right half
        (20, 8, 30, 12),  # inside but for its upper two rows
        (22, 14, 28, 18),  # hidden
        (18, 22, 42, 24),  # loses 20 of 24 columns, on both sides of what covers it: ignored around both
        (40, 5, 50, 9),  # not reached
        (12, 10, 21, 20),  # all but its last column
        (39, 12, 41, 19),  # one column is left: too thin
    ]
    found = paste_one(objects, scene([(20, 10, 40, 26)], first_label=ABOVE), crowd=[(25, 12, 45, 30)])
    assert found.target.labels.tolist() == [1, 2, 5, 6, ABOVE]
    assert found.target.boxes.tolist() == [
        *([10, 10, 20, 20], [20, 8, 30, 10], [40, 5, 50, 9], [12, 10, 20, 20]),
        [20, 10, 40, 26],
    ]
    assert found.target.crowd.tolist() == [[25, 12, 45, 30], [18, 22, 42, 24]]
    assert [int(mask.sum()) for mask in found.target.masks] == [100, 20, 40, 80, 320]


def test_a_box_without_a_pixel_is_not_pasted() -> None:
    """A crop may show an empty corner of an object's box."""
    above = scene([(20, 10, 40, 26), (8, 8, 16, 16)], first_label=ABOVE)
    above.target.masks[0] = False
    draws = [paste(scene([(10, 10, 30, 20)]), above, generator(seed)) for seed in range(20)]
    assert {tuple(pasted(found)) for found in draws} == {(), (1,)}


def test_an_object_that_nothing_covers_stays_without_a_pixel_of_its_own() -> None:
    """An object thinner than a pixel may have an empty mask."""
    below = scene([(10, 10, 30, 20), (40, 5, 50, 9)])
    below.target.masks[1] = False
    above = scene([(15, 12, 20, 16)], first_label=ABOVE)
    found = next(one for one in (paste(below, above, generator(seed)) for seed in range(100)) if pasted(one))
    assert found.target.labels.tolist() == [1, 2, ABOVE]
    assert found.target.boxes[1].tolist() == [40, 5, 50, 9]


@given(seed=SEEDS)
def test_nothing_to_paste_leaves_the_picture_as_it_is(seed: int) -> None:
    below = scene([(10, 10, 30, 20)], crowd=[(20, 10, 50, 34)])
    assert is_same(paste(below, scene(crowd=[(8, 8, 50, 30)], seed=2), generator(seed)), below)


def test_pasting_into_a_picture_without_objects() -> None:
    found = paste_one([], scene([(20, 10, 40, 26)], first_label=ABOVE))
    assert found.target.boxes.tolist() == [[20, 10, 40, 26]]


PORTRAIT = Letterbox(HEIGHT, 48, WIDTH, 40, 24)  # 24 x 40 at (18, 0)


@given(BOXES, BOXES, SEEDS)
def test_pictures_of_other_sizes_are_pasted_within_the_one_below(
    low: list[tuple[int, ...]], high: list[tuple[int, ...]], seed: int
) -> None:
    """A landscape over a portrait: nothing reaches the padding, and boxes are those of what is left."""
    below = dataclasses.replace(scene([box for box in low if box[0] >= 18 and box[2] <= 42]), letterbox=PORTRAIT)
    above = scene(high, seed=2, first_label=ABOVE)
    found = paste(below, above, generator(seed))
    x1, y1, x2, y2 = (int(side) for side in PORTRAIT.region)
    outside = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    outside[y1:y2, x1:x2] = False
    assert torch.equal(found.image[:, outside], below.image[:, outside])
    assert not found.target.masks[:, outside].any()
    for label, box, mask in zip(found.target.labels, found.target.boxes, found.target.masks, strict=True):
        if label >= ABOVE:
            assert tight(mask.nonzero().tolist()) == box.tolist()
            whole = above.target.masks[int(label) - ABOVE]
            assert torch.equal(mask, whole & ~outside)
            assert 4 * int(mask.sum()) >= int(whole.sum())
    assert (found.target.crowd[:, 0] >= x1).all()
    assert (found.target.crowd[:, 2] <= x2).all()


def test_most_of_an_object_beside_the_picture_leaves_a_remnant_out() -> None:
    """Of one an eighth is inside, and it is not pasted; of the other a half is, and that is."""
    below = dataclasses.replace(scene(), letterbox=PORTRAIT)
    above = scene([(8, 8, 20, 20), (36, 10, 48, 22)], seed=2, first_label=ABOVE)
    seen = {tuple(pasted(paste(below, above, generator(seed)))) for seed in range(20)}
    assert seen == {(), (1,)}

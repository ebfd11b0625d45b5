"""Training pictures varied: what a draw decides, when another picture is read, and the light inside the picture.

How pictures are rescaled and how objects are pasted stands in tests of their own.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor

from src.core.params import AugmentParams
from src.core.runtime import generator
from src.data import augmentation
from src.data.augmentation import Augmentation, rescale
from src.data.prepared import Example
from tests.data.scenes import (
    ABOVE,
    BOTTOM,
    BOXES,
    HEIGHT,
    LEFT,
    RIGHT,
    SEEDS,
    TOP,
    WIDTH,
    Box,
    assert_fits,
    is_same,
    pasted,
    plain_paste,
    scene,
    without_masks,
)


@pytest.mark.parametrize("name", ["scale_jitter", "color_jitter", "copy_paste"])
def test_params_that_leave_pictures_as_they_are_are_no_augmentation(name: str) -> None:
    values = {"scale_jitter": 0.0, "color_jitter": 0.0, "copy_paste": 0.0}
    assert Augmentation.from_params(AugmentParams(**values)) is None
    assert Augmentation.from_params(AugmentParams(**(values | {name: 0.25}))) == Augmentation(**(values | {name: 0.25}))


EVERYTHING = Augmentation(scale_jitter=1.0, color_jitter=0.4, copy_paste=1.0)
OBJECTS, OTHERS = [(10, 8, 30, 20), (25, 10, 50, 34)], [(8, 6, 24, 30), (20, 20, 52, 32)]


def unread() -> Example:
    raise AssertionError("another picture was read")


def varied(how: Augmentation, seed: int, before: Example | None = None) -> Example:
    """One variation of a picture of two objects and a crowd region, with another of two objects at hand."""
    before = before or scene(OBJECTS, crowd=[(30, 6, 50, 12)])
    return how(before, lambda: scene(OTHERS, seed=2, first_label=ABOVE), generator(seed))


@given(boxes=BOXES, crowd=BOXES, others=BOXES, seed=SEEDS)
def test_every_variation_fits_and_leaves_its_sources_alone(
    boxes: list[Box], crowd: list[Box], others: list[Box], seed: int
) -> None:
    sources = scene(boxes, crowd), scene(others, [(7, 5, 20, 20)], seed=2, first_label=ABOVE)
    untouched = copy.deepcopy(sources)
    found = EVERYTHING(sources[0], lambda: sources[1], generator(seed))
    assert_fits(found, sources[0])
    assert all(map(is_same, sources, untouched))


@pytest.mark.parametrize(
    "how", [EVERYTHING, *(dataclasses.replace(Augmentation(0, 0, 0), **{name: 1.0}) for name in vars(EVERYTHING))]
)
def test_a_draw_decides_everything(how: Augmentation) -> None:
    found = [varied(how, seed) for seed in range(8)]
    assert all(is_same(one, varied(how, seed)) for seed, one in enumerate(found))
    same = sum(is_same(one, other) for one, other in itertools.combinations(found, 2))
    assert same < (28 if how.copy_paste and not how.scale_jitter else 1)  # of two objects there are four choices


def test_no_augmentation_at_all_gives_the_picture_back() -> None:
    before = scene(OBJECTS)
    assert Augmentation(0.0, 0.0, 0.0)(before, unread, generator(1)) is before


@pytest.mark.parametrize(
    ("how", "draws", "least", "most"),
    [(Augmentation(1.0, 0.4, 0.0), 20, 0, 0), (Augmentation(0.0, 0.0, 0.3), 300, 60, 120), (EVERYTHING, 20, 20, 20)],
)
def test_another_picture_is_read_only_where_it_is_needed(how: Augmentation, draws: int, least: int, most: int) -> None:
    reads: list[int] = []

    def other() -> Example:
        reads.append(1)
        return scene(OTHERS, seed=2)

    for seed in range(draws):
        how(scene(OBJECTS), other, generator(seed))
    assert least <= len(reads) <= most


@pytest.mark.parametrize("jitter", [0.25, 3.0])
def test_factors_are_uniform_in_their_logarithm_and_places_anywhere(
    monkeypatch: pytest.MonkeyPatch, jitter: float
) -> None:
    drawn: list[tuple[float, float, float]] = []

    def record(example: Example, factor: float, place: tuple[float, float]) -> Example:
        drawn.append((math.log(factor) / math.log(1 + jitter), *(2 * where - 1 for where in place)))
        return example

    monkeypatch.setattr(augmentation, "rescale", record)
    for seed in range(500):
        varied(Augmentation(jitter, 0.0, 1.0), seed)
    numbers = torch.tensor(drawn)
    assert len(numbers) == 1000  # the other picture has draws of its own
    both = torch.cat([numbers[::2], numbers[1::2]], dim=1)
    assert (both.abs() <= 1 + 1e-6).all()
    for column in both.T:
        assert torch.histc(column, 4, -1, 1).min() > 80  # of 125 in the mean
    apart = torch.corrcoef(both.T) - torch.eye(6)
    assert apart.abs().max() < 0.2


def test_the_other_picture_is_rescaled_before_it_is_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Example] = []

    def record(*arguments: Any) -> Example:
        made.append(rescale(*arguments))
        return made[-1]

    monkeypatch.setattr(augmentation, "rescale", record)
    for seed in range(10):
        made.clear()
        found = varied(Augmentation(1.0, 0.0, 1.0), seed)
        below, above = made
        labels = above.target.labels.tolist()
        chosen = [labels.index(number + ABOVE) for number in pasted(found)]
        assert is_same(found, plain_paste(below, above, chosen) if chosen else below)


def color_card() -> Example:
    """Two grays and a color inside the picture; the canvas around it is noise, the objects are those of others."""
    example = scene(OBJECTS, crowd=[(30, 6, 50, 12)])
    image = example.image.clone()
    for left, color in ((LEFT, (60, 60, 60)), (22, (140, 140, 140)), (38, (130, 100, 70))):
        image[:, TOP:BOTTOM, left : left + 16] = torch.tensor(color, dtype=torch.uint8)[:, None, None]
    return dataclasses.replace(example, image=image)


def luminance(image: Tensor) -> float:
    red, green, blue = image[:, TOP:BOTTOM, LEFT:RIGHT].double().mean(dim=(1, 2)).tolist()
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_brightness_contrast_and_saturation_change_within_bounds() -> None:
    """The mean tells brightness, two grays tell contrast, and what a color has beyond gray tells saturation."""
    before, factors = color_card(), []
    for seed in range(300):
        found = varied(Augmentation(0.0, 0.3, 0.0), seed, before)
        assert_fits(found, before)
        assert found.target is before.target
        dark, light, (red, _, blue) = (found.image[:, 10, x].double().tolist() for x in (10, 30, 50))
        assert dark[0] == dark[1] == dark[2]  # gray stays gray
        brightness = luminance(found.image) / luminance(before.image)
        contrast = (light[0] - dark[0]) / 80 / brightness
        factors.append((brightness, contrast, (red - blue) / 60 / brightness / contrast))
    numbers = torch.tensor(factors)
    assert ((numbers - 1).abs() < 0.3 + 0.04).all()  # pixels are rounded
    assert (numbers.amin(0) < 0.75).all()
    assert (numbers.amax(0) > 1.25).all()
    assert (torch.corrcoef(numbers.T) - torch.eye(3)).abs().max() < 0.25


def test_pasted_objects_stand_in_the_same_light() -> None:
    gray = torch.full((3, HEIGHT, WIDTH), 100, dtype=torch.uint8)
    below, above = (dataclasses.replace(scene(boxes), image=gray) for boxes in (OBJECTS, OTHERS))
    for seed in range(10):
        found = Augmentation(0.0, 0.4, 1.0)(below, lambda: above, generator(seed))
        assert len(found.image[:, TOP:BOTTOM, LEFT:RIGHT].unique()) == 1


def test_masks_are_needed_for_pasting_alone() -> None:
    how = Augmentation(1.0, 0.4, 0.0)
    before = scene(OBJECTS, crowd=[(30, 6, 50, 12)])
    for seed in range(10):
        found = how(without_masks(before), unread, generator(seed))
        assert is_same(found, without_masks(how(before, unread, generator(seed))))


def test_pictures_without_objects_are_varied_too() -> None:
    for seed in range(10):
        found = EVERYTHING(scene(), lambda: scene(seed=2), generator(seed))
        assert_fits(found, scene())
        assert len(found.target.boxes) == len(found.target.crowd) == 0
        assert not torch.equal(found.image, scene().image)

"""Pictures of any size in one set: each lies in a place of its own on the canvas, and comes back from there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from src.data.batches import Batcher
from src.data.dataset import DatasetFile
from src.data.letterbox import Frame, Letterbox
from src.data.normalize import Normalization
from src.data.prepared import Example, PreparedFile, flip, flip_boxes, write_prepared
from src.structures.masks import Masks
from tests.data.memory import traced_peak
from tests.factories import SMALL, make_dataset, make_prepared, make_samples

SIZES = [(300, 400), (400, 300), (60, 480), (480, 64), (30, 20), (1200, 1600)]  # landscape, portrait, panoramas, ...
SIDES = st.integers(8, 700)


@st.composite
def rectangles(draw: st.DrawFn) -> tuple[Letterbox, list[int]]:
    """A picture's letterbox, and a rectangle of whole pixels that is at least four canvas pixels wide and high.

    Where a picture shrinks, its filter is two canvas pixels wide: what is thinner has no middle, and its edges meet.
    """
    letterbox = Frame(96, 128, 160).letterbox(draw(SIDES), draw(SIDES))
    box = []
    for length, scale in ((letterbox.source_width, letterbox.scale_x), (letterbox.source_height, letterbox.scale_y)):
        shortest = int(np.ceil(4 / scale))
        assume(shortest < length)
        start = draw(st.integers(0, length - shortest))
        box.append((start, draw(st.integers(start + shortest, length))))
    (x1, x2), (y1, y2) = box
    return letterbox, [x1, y1, x2, y2]


@given(rectangles())
def test_masks_and_pictures_come_back_within_half_a_pixel(drawn: tuple[Letterbox, list[int]]) -> None:
    letterbox, (x1, y1, x2, y2) = drawn
    mask = np.zeros((1, letterbox.source_height, letterbox.source_width), bool)
    mask[0, y1:y2, x1:x2] = True
    image = np.repeat(mask[0][..., None].astype(np.uint8) * 255, 3, axis=2)
    for canvas in (letterbox.masks_to_canvas(mask)[0], letterbox.image_to_canvas(image)[..., 0] >= 128):
        ys, xs = np.nonzero(canvas)
        around = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float64)
        off = np.abs(letterbox.boxes_to_source(around) - [x1, y1, x2, y2])
        pixel = np.maximum(1, [1 / letterbox.scale_x, 1 / letterbox.scale_y] * 2)  # the larger of both pixels
        assert (off <= 0.6 * pixel).all()  # a tenth for the steps of the filter


@given(rectangles())
def test_run_lengths_move_as_pixels_do(drawn: tuple[Letterbox, list[int]]) -> None:
    letterbox, (x1, y1, x2, y2) = drawn
    masks = np.zeros((2, letterbox.source_height, letterbox.source_width), bool)
    masks[0, y1:y2, x1:x2] = True
    assert np.array_equal(letterbox.masks_to_canvas(Masks.from_pixels(masks)), letterbox.masks_to_canvas(masks))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedFile]:
    with PreparedFile(make_prepared(tmp_path_factory.mktemp("sizes"), 6, 3, sizes=SIZES)) as file:
        yield file


@pytest.fixture(scope="module")
def examples(prepared: PreparedFile) -> list[Example]:
    return list(prepared.examples(range(6)))


def plain_region(height: int, width: int) -> list[int]:
    """In fractions, rounded at the end: the picture as large as 96 x 128 allows, in the middle of 96 x 160."""
    scale = min(96 / height, 128 / width)
    rows, columns = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
    left, top = (160 - columns) // 2, (96 - rows) // 2
    return [left, top, left + columns, top + rows]


def test_each_picture_lies_in_its_own_place_and_nowhere_else(examples: list[Example]) -> None:
    images = Batcher(Normalization(SMALL.mean, SMALL.std), torch.device("cpu")).images(examples)
    assert images.regions.tolist() == [plain_region(*size) for size in SIZES]
    assert images.image_sizes == [(y2 - y1, x2 - x1) for x1, y1, x2, y2 in (plain_region(*size) for size in SIZES)]
    for pixels, example, size in zip(images.tensors, examples, SIZES, strict=True):
        x1, y1, x2, y2 = plain_region(*size)
        assert (pixels[:, y1:y2, x1:x2] != 0).float().mean() > 0.99
        outside = torch.ones(96, 160, dtype=torch.bool)
        outside[y1:y2, x1:x2] = False
        assert not pixels[:, outside].any()  # normalized black would not be 0
        assert not example.image[:, outside].any()
        assert not example.target.masks[:, outside].any()
        assert (example.target.boxes[:, :2] >= torch.tensor([x1, y1])).all()
        assert (example.target.boxes[:, 2:] <= torch.tensor([x2, y2]) + 1e-4).all()


def test_one_resize_from_the_picture_itself(examples: list[Example]) -> None:
    for example, sample in zip(examples, make_samples(6, 3, sizes=SIZES), strict=True):
        x1, y1, x2, y2 = map(int, example.letterbox.region)
        expected = Image.fromarray(sample.image).resize((x2 - x1, y2 - y1), Image.Resampling.BILINEAR)
        assert np.array_equal(example.image[:, y1:y2, x1:x2].permute(1, 2, 0).numpy(), np.asarray(expected))
        back = example.letterbox.boxes_to_source(example.target.boxes.numpy())
        np.testing.assert_allclose(back, sample.boxes, atol=2e-4 * max(sample.image.shape))


def test_each_is_mirrored_where_it_lies(prepared: PreparedFile, examples: list[Example]) -> None:
    for index, example in enumerate(examples):
        x1, y1, x2, y2 = map(int, example.letterbox.region)
        mirrored = flip(example)
        inside = np.s_[:, y1:y2, x1:x2]
        assert torch.equal(mirrored.image[inside], example.image[inside].flip(-1))
        assert torch.equal(mirrored.target.masks[inside], example.target.masks[inside].flip(-1))
        assert mirrored.image.sum() == example.image.sum()
        boxes = flip_boxes(prepared.target(index), prepared.letterbox(index)).boxes
        assert torch.equal(mirrored.target.boxes, boxes)
        torch.testing.assert_close(boxes[:, 0] - x1, x2 - example.target.boxes[:, 2])


def test_an_object_that_no_pixel_of_the_canvas_shows_is_ignored(tmp_path: Path) -> None:
    (sample,) = make_samples(1, 0, sizes=[(1200, 1600)])
    masks = sample.masks.pixels()
    masks[0] = False
    masks[0, 700, 900] = True
    boxes = sample.boxes.copy()
    boxes[0] = [900, 700, 901, 701]
    sample = dataclasses.replace(sample, masks=Masks.from_pixels(masks), boxes=boxes)
    with DatasetFile(make_dataset(tmp_path / "d.h5", [sample])) as dataset:
        assert write_prepared(tmp_path / "p.h5", dataset, SMALL) == 1
        assert dataset.crowd(0).sum() == 0  # what is evaluated stays as it is
    with PreparedFile(tmp_path / "p.h5") as file:
        assert file.crowd(0).tolist() == [True] + [False] * (len(boxes) - 1)
        assert len(file.target(0).boxes) == len(boxes) - 1


def test_memory_is_that_of_one_picture_however_many_objects_it_has(tmp_path: Path) -> None:
    (sample,) = make_samples(1, 0, sizes=[(1500, 2000)])

    def peak(objects: int) -> int:
        def repeated(column: np.ndarray) -> np.ndarray:
            return np.repeat(column[:1], objects, axis=0)

        columns = {name: repeated(getattr(sample, name)) for name in ("boxes", "labels", "crowd")}
        masks = Masks(1500, 2000, sample.masks.codes[:1] * objects)
        many = dataclasses.replace(sample, masks=masks, **columns)

        def move() -> None:
            with DatasetFile(make_dataset(tmp_path / "d.h5", [many])) as dataset:
                write_prepared(tmp_path / "p.h5", dataset, SMALL)

        return traced_peak(move)

    peak(1)
    assert peak(20) < peak(2) + 2_000_000  # eighteen masks of 3 MB each, 0.3 MB together on the canvas

"""Pictures in tiles: every pixel is seen, objects on a border come out whole and once."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.core.params import Params
from src.detector.mask_rcnn import MaskRCNN
from src.evaluation.predictor import Predictor
from src.evaluation.rle import decode_masks
from src.evaluation.tiles import Tile, is_cut, make_tiles, merge, moved
from src.structures.detections import Detections
from tests.detector.small import evaluate_params
from tests.evaluation.detectors import predictor, small_detector, small_params

GRID = 8  # cells of a mask's side


@pytest.fixture(scope="module")
def detector() -> MaskRCNN:
    return small_detector()


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """From x1 y1 x2 y2 score label; masks fill their boxes."""
    values = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    labels = values[:, 5].long()
    return Detections(values[:, :4], labels, values[:, 4], values[:, :4], torch.ones(len(rows), GRID, GRID))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(8, 120), st.floats(0, 0.75))
def test_tiles_cover_the_picture_and_overlap(height: int, width: int, side: int, overlap: float) -> None:
    tiles = make_tiles(height, width, side, overlap)
    seen = np.zeros((height, width), int)
    for tile in tiles:
        assert tile.top >= 0
        assert tile.left >= 0
        assert tile.top + tile.height <= height
        assert tile.left + tile.width <= width
        seen[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += 1
    assert bool(tiles) == (max(height, width) > side)
    assert (seen.min() > 0) == bool(tiles)
    for starts, extent in (({tile.top for tile in tiles}, height), ({tile.left for tile in tiles}, width)):
        ordered = sorted(starts)
        for one, other in pairwise(ordered):
            assert min(side, extent) - (other - one) >= int(side * overlap) - 1


def test_only_inner_borders_cut() -> None:
    boxes = detections(
        *[(*box, 0.9, 1) for box in ((0, 0, 40, 40), (60, 20, 100, 40), (20, 60, 40, 100), (5, 5, 90, 90))]
    )
    assert is_cut(boxes, Tile(0, 0, 100, 100), 300, 300).tolist() == [False, True, True, False]
    assert is_cut(boxes, Tile(0, 0, 100, 100), 100, 300).tolist() == [False, True, False, False]
    second = moved(boxes, Tile(200, 200, 100, 100))
    assert second.boxes[0].tolist() == [200, 200, 240, 240]
    assert is_cut(second, Tile(200, 200, 100, 100), 300, 300).tolist() == [True, False, False, False]


def test_a_cut_part_goes_where_the_whole_was_found_and_stays_where_not() -> None:
    part, whole = detections((60, 20, 100, 40, 0.99, 1)), detections((60, 20, 140, 40, 0.6, 1))
    yes, no = torch.tensor([True]), torch.tensor([False])
    rules = evaluate_params()
    assert merge([part, whole], [yes, no], rules).boxes.tolist() == whole.boxes.tolist()
    assert len(merge([part, detections()], [yes, no[:0]], rules)) == 1
    other = dataclasses.replace(whole, labels=torch.tensor([2]))
    assert len(merge([part, other], [yes, no], rules)) == 2
    assert len(merge([part, other], [yes, no], evaluate_params(class_agnostic_nms=True))) == 1


def test_the_same_object_in_two_tiles_is_one() -> None:
    one, other = detections((60, 20, 90, 40, 0.7, 1)), detections((61, 20, 91, 41, 0.8, 1), (10, 10, 30, 30, 0.9, 1))
    flags = [torch.zeros(1, dtype=torch.bool), torch.zeros(2, dtype=torch.bool)]
    assert merge([one, other], flags, evaluate_params()).scores.tolist() == pytest.approx([0.9, 0.8])


def find_rectangles(run: Predictor, example: Any) -> Detections:
    """Finds a red and a green rectangle of at least 12 pixels of the canvas, as a detector that needs some size."""
    rows = []
    for color in (0, 1):
        ys, xs = (axis.tolist() for axis in torch.nonzero(example.image[color] > 128, as_tuple=True))
        if xs and min(max(xs) - min(xs), max(ys) - min(ys)) >= 11:
            rows.append((min(xs), min(ys), max(xs) + 1.0, max(ys) + 1.0, 0.9, 1))
    return detections(*rows)


def params(tile: int) -> Params:
    whole = small_params()
    return dataclasses.replace(whole, predict=dataclasses.replace(whole.predict, tile=tile, tile_overlap=0.25))


@pytest.mark.parametrize("left", [100, 180, 215, 235, 300])
def test_small_and_large_objects_of_a_large_picture(
    detector: MaskRCNN, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """A small object anywhere, also astride borders of tiles of 256 pixels, and a large one over many tiles."""
    monkeypatch.setattr(Predictor, "detect", find_rectangles)
    picture = np.zeros((900, 1200, 3), np.uint8)
    picture[30:70, left : left + 50, 0] = 255
    picture[300:850, 200:1100, 1] = 255
    run = predictor(detector, params(256))
    found = run.predict(picture)
    assert len(predictor(detector, params(0)).predict(picture)) == 1
    expected = [[left, 30, left + 50, 70], [200, 300, 1100, 850]]
    large = [box for box in found.boxes.tolist() if box[2] - box[0] > 500]
    small = [box for box in found.boxes.tolist() if box[3] < 100]
    assert len(large) == len(small) == 1
    assert small[0] == pytest.approx(expected[0], abs=4)
    assert large[0] == pytest.approx(expected[1], abs=12)
    assert found.masks is not None
    masks = decode_masks(found.masks, 900, 1200)
    for box, mask in zip(found.boxes.tolist(), masks, strict=True):
        area = (box[2] - box[0]) * (box[3] - box[1])
        assert mask.sum() == pytest.approx(area, rel=0.15)


def test_a_picture_of_one_tile_is_seen_once(detector: MaskRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def detect(self: Predictor, example: Any) -> Detections:
        seen.append((example.letterbox.source_height, example.letterbox.source_width))
        return detections()

    monkeypatch.setattr(Predictor, "detect", detect)
    run = predictor(detector, params(256))
    assert len(run.predict(np.zeros((256, 200, 3), np.uint8))) == 0
    assert seen == [(256, 200)]
    assert len(run.predict(np.zeros((256, 300, 3), np.uint8))) == 0
    assert seen[1:] == [(256, 300), (256, 256), (256, 256)]
    assert [tile.left for tile in make_tiles(256, 300, 256, 0.25)] == [0, 44]

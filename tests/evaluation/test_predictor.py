"""The detector on pictures of any size, and the way back from the canvas to the picture's own pixels."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from src.data.letterbox import Letterbox
from src.data.prepared import Example
from src.detector.mask_rcnn import MaskRCNN
from src.evaluation.instances import Instances
from src.evaluation.predictor import Predictor, to_source
from src.evaluation.rle import decode_masks, encode_masks
from src.ops.masks import paste_masks
from src.structures.detections import Detections
from src.structures.target import no_target
from tests.evaluation.detectors import predictor, small_detector, small_params
from tests.factories import SMALL, make_samples

SIZES = [(96, 128), (300, 400), (301, 97), (40, 61), (24, 500), (500, 24), (1, 1), (700, 1)]  # height, width


@pytest.fixture(scope="module")
def detector() -> MaskRCNN:
    return small_detector()


def picture(height: int, width: int) -> np.ndarray:
    """Shapes on noise, cut out of a larger picture or repeated."""
    return np.resize(make_samples(1)[0].image, (height, width, 3))


def above(run: Predictor, threshold: float) -> Predictor:
    """The same with a threshold for what is predicted."""
    params = run.params
    changed = dataclasses.replace(params, predict=dataclasses.replace(params.predict, score_threshold=threshold))
    return dataclasses.replace(run, params=changed)


def assert_inside(found: Instances, height: int, width: int) -> None:
    """Boxes and proposals lie in the picture, up to the rounding of coordinates in float32."""
    for boxes in (found.boxes, found.proposals):
        assert boxes is not None
        assert (boxes[:, :2] >= -1e-3).all()
        assert (boxes[:, 2] <= width + 1e-3).all()
        assert (boxes[:, 3] <= height + 1e-3).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


@pytest.mark.parametrize("border", ["remove", "clip"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_boxes_and_masks_are_the_picture_s(detector: MaskRCNN, height: int, width: int, border: str) -> None:
    found = predictor(detector, small_params(border=border)).predict(picture(height, width))
    assert_inside(found, height, width)
    assert found.masks is not None
    assert len(found) == len(found.labels) == len(found.scores) == len(found.masks)
    assert all(mask["size"] == [height, width] for mask in found.masks)
    if min(height, width) >= 40:
        assert len(found) > 0
        assert decode_masks(found.masks, height, width).any()
    if min(height, width) >= 40 and border == "clip":
        assert found.boxes[:, 2].max() > 0.6 * width  # not the canvas's pixels
        assert found.boxes[:, 3].max() > 0.6 * height


@pytest.mark.parametrize("border", ["remove", "clip"])
def test_only_what_reaches_the_threshold_is_predicted(detector: MaskRCNN, border: str) -> None:
    run = predictor(detector, small_params(border=border))
    everything = run.predict(picture(300, 400))
    threshold = float(everything.scores.median())
    sure = above(run, threshold).predict(picture(300, 400))
    assert 0 < len(sure) < len(everything)
    assert sure.scores.min() == threshold  # one that just reaches it stays
    rows = everything.scores >= threshold
    assert torch.equal(sure.boxes, everything.boxes[rows])
    assert torch.equal(sure.labels, everything.labels[rows])
    assert sure.masks == everything.keep(rows).masks
    nothing = above(run, 1.0).predict(picture(300, 400))
    assert (len(nothing), nothing.masks) == (0, [])


def test_a_picture_is_seen_as_the_prepared_file_has_it(detector: MaskRCNN) -> None:
    """Put on the canvas by hand: the detector's boxes, less the black columns, twice as large as on the canvas."""
    run = predictor(detector, small_params(border="clip"))
    found = run.predict(picture(2 * SMALL.height, 2 * SMALL.width))
    letterbox = Letterbox.from_params(SMALL, 2 * SMALL.height, 2 * SMALL.width)
    canvas = letterbox.image_to_canvas(picture(2 * SMALL.height, 2 * SMALL.width))
    image = torch.from_numpy(canvas).permute(2, 0, 1)
    with torch.no_grad():
        images = run.batcher.images([Example(0, "", image, no_target(SMALL.height, SMALL.padded_width), letterbox)])
        (expected,) = run.detector.detect(images)
    assert images.regions.tolist() == [[16, 0, 144, 96]]
    torch.testing.assert_close(found.boxes, 2 * (expected.boxes - torch.tensor([16.0, 0, 16, 0])))
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.scores, expected.scores)


def test_masks_are_pasted_one_by_one_and_only_where_the_score_is_enough(
    detector: MaskRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A phone's picture has 50 MB a mask: the masks of all detections at once would not fit a small memory."""
    run = predictor(detector, small_params(border="clip"))
    everything = run.predict(picture(300, 400))
    coded: list[int] = []

    def counting(masks: np.ndarray) -> list[dict[str, Any]]:
        coded.append(len(masks))
        return encode_masks(masks)

    monkeypatch.setattr("src.evaluation.predictor.encode_masks", counting)
    sure = above(run, float(everything.scores.median())).predict(picture(300, 400))
    assert coded == [1] * len(sure)
    assert len(sure) < len(everything)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_masks_are_those_of_all_pasted_at_once(threshold: float) -> None:
    """To the byte, also of boxes over the border, beyond it and empty ones."""
    corners: list[list[float]] = [
        [30.0, 10, 90, 80],
        [-20, -9, 40, 33],
        [100, 60, 190, 130],
        [300, 10, 400, 20],
        [50, 50, 50, 70],
    ]
    grids = torch.rand(5, 28, 28, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    letterbox = Letterbox(96, 128, 160, 45, 64)
    found = to_source(detections(corners, grids), letterbox, threshold)
    assert found.masks == encode_masks(paste_masks(grids, found.boxes, 45, 64) >= threshold)


def detections(boxes: list[list[float]], masks: Tensor) -> Detections:
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.ones(len(rows), dtype=torch.int64)
    return Detections(rows, labels, torch.full((len(rows),), 0.5), rows - 2, masks)


def test_the_way_back_moves_boxes_and_masks() -> None:
    letterbox = Letterbox(height=96, width=128, padded_width=160, source_height=48, source_width=64)  # twice as large
    masks = torch.zeros(2, 28, 28)
    masks[0] = 1.0
    masks[1, :, 14:] = 1.0  # its right half
    canvas = [[36.0, 20, 92, 76], [16, 0, 144, 96]]
    found = to_source(detections(canvas, masks), letterbox, 0.5)
    assert found.boxes.tolist() == [[10, 10, 38, 38], [0, 0, 64, 48]]
    assert found.proposals is not None
    assert found.proposals.tolist() == [[9, 9, 37, 37], [-1, -1, 63, 47]]
    assert found.masks is not None
    pixels = decode_masks(found.masks, 48, 64)
    expected = torch.zeros(2, 48, 64, dtype=torch.bool)
    expected[0, 10:38, 10:38] = True
    expected[1, :, 32:] = True
    assert torch.equal(torch.as_tensor(pixels), expected)


def test_boxes_stay_fractions_and_masks_are_thresholded_last() -> None:
    letterbox = Letterbox(96, 128, 160, 48, 64)
    masks = torch.full((1, 28, 28), 0.4)
    masks[0, :, 14:] = 0.9  # half way between, 0.65: thresholded before, the border would lie a pixel further right
    found = to_source(detections([[36.5, 20.5, 93, 77.5]], masks), letterbox, 0.5)
    assert found.boxes.tolist() == [[10.25, 10.25, 38.5, 38.75]]
    expected = paste_masks(masks, found.boxes, 48, 64) >= 0.5
    assert torch.equal(torch.as_tensor(decode_masks(found.masks, 48, 64)), expected)
    assert not torch.equal(paste_masks((masks >= 0.5).float(), found.boxes, 48, 64) >= 0.5, expected)


@pytest.mark.parametrize(("threshold", "filled"), [(0.3, True), (0.5, False)])
def test_masks_are_thresholded_in_the_picture(threshold: float, filled: bool) -> None:
    letterbox = Letterbox(96, 128, 160, 48, 64)
    found = to_source(detections([[36, 20, 92, 76]], torch.full((1, 28, 28), 0.4)), letterbox, threshold)
    pixels = torch.as_tensor(decode_masks(found.masks, 48, 64))
    assert bool(pixels.any()) == filled


def test_nothing_found_goes_back_as_nothing() -> None:
    found = to_source(detections([], torch.zeros(0, 28, 28)), Letterbox(96, 128, 160, 48, 64), 0.5)
    assert len(found) == 0
    assert found.masks == []

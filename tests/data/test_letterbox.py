"""The way to the canvas and back: task 9's numbers, exact inverses, agreement of boxes, masks and pixels."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as reference

from src.data.letterbox import Letterbox
from tests.factories import SMALL

LETTERBOX = Letterbox(800, 1066, 1088, 300, 400)
SIZES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


def test_task_9_s_numbers() -> None:
    assert (LETTERBOX.resized_height, LETTERBOX.resized_width) == (800, 1066)
    assert (LETTERBOX.left, LETTERBOX.top) == (11, 0)
    assert LETTERBOX.region == (11, 0, 1077, 800)
    assert LETTERBOX.scale_x == 1066 / 400
    assert LETTERBOX.scale_y == 800 / 300


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_boxes_go_where_the_assignment_says(kind: Any) -> None:
    boxes = kind(np.array([[0, 0, 400, 300], [10, 20, 30, 60]], np.float32))
    moved = LETTERBOX.boxes_to_canvas(boxes)
    assert type(moved) is type(boxes)
    assert moved.dtype == boxes.dtype
    expected = [[11, 0, 1077, 800], [10 * 1066 / 400 + 11, 20 * 800 / 300, 30 * 1066 / 400 + 11, 60 * 800 / 300]]
    np.testing.assert_allclose(np.asarray(moved), expected, rtol=1e-6)


@given(size=SIZES, corners=st.lists(st.tuples(*[st.floats(0, 3000)] * 4), max_size=5))
def test_the_way_back_is_the_inverse(size: tuple[int, int], corners: list[tuple[float, ...]]) -> None:
    letterbox = Letterbox(800, 1066, 1088, *size)
    boxes = np.array(corners, np.float64).reshape(-1, 4)
    np.testing.assert_allclose(letterbox.boxes_to_source(letterbox.boxes_to_canvas(boxes)), boxes, atol=1e-6)
    tensor = torch.from_numpy(boxes)
    torch.testing.assert_close(
        letterbox.boxes_to_source(letterbox.boxes_to_canvas(tensor)), tensor, atol=1e-6, rtol=1e-9
    )


@given(size=SIZES)
def test_pictures_of_any_size_fit_are_centered_and_keep_their_aspect(size: tuple[int, int]) -> None:
    letterbox = Letterbox(800, 1066, 1088, *size)
    x1, y1, x2, y2 = letterbox.region
    assert 0 <= x1 < x2 <= 1088
    assert 0 <= y1 < y2 <= 800
    assert letterbox.resized_width == 1066 or letterbox.resized_height == 800
    assert letterbox.resized_width <= 1066
    assert 0 <= (1088 - x2) - x1 <= 1
    assert 0 <= (800 - y2) - y1 <= 1
    exact = min(800 / size[0], 1066 / size[1])
    assert abs(letterbox.resized_width - max(1, size[1] * exact)) <= 0.5 + 1e-6
    assert abs(letterbox.resized_height - max(1, size[0] * exact)) <= 0.5 + 1e-6


@pytest.mark.parametrize("size", [(300, 400), (37, 91), (1200, 900), (2000, 100)])
def test_images_are_resized_as_torchvision_does_and_padded_black(size: tuple[int, int]) -> None:
    letterbox = Letterbox(96, 128, 160, *size)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    canvas = letterbox.image_to_canvas(image)
    assert canvas.shape == (96, 160, 3)
    x1, y1, x2, y2 = map(int, letterbox.region)
    expected = reference.resize(torch.from_numpy(image).permute(2, 0, 1), [y2 - y1, x2 - x1], antialias=True)
    inside = canvas[y1:y2, x1:x2].astype(int)
    assert np.abs(inside - expected.permute(1, 2, 0).numpy()).max() <= 1
    canvas[y1:y2, x1:x2] = 0
    assert not canvas.any()


def plain_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear enlargement of a mask at half-pixel centers, thresholded, in plain loops."""
    result = np.zeros((height, width), bool)
    for row in range(height):
        for column in range(width):
            y = min(max((row + 0.5) * mask.shape[0] / height - 0.5, 0), mask.shape[0] - 1)
            x = min(max((column + 0.5) * mask.shape[1] / width - 0.5, 0), mask.shape[1] - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, mask.shape[0] - 1), min(left + 1, mask.shape[1] - 1)
            upper = mask[top, left] * (1 - x + left) + mask[top, right] * (x - left)
            lower = mask[bottom, left] * (1 - x + left) + mask[bottom, right] * (x - left)
            result[row, column] = upper * (1 - y + top) + lower * (y - top) >= 0.5
    return result


def test_masks_are_resized_before_they_are_thresholded() -> None:
    letterbox = Letterbox(32, 43, 64, 12, 16)
    mask = np.random.default_rng(0).random((2, 12, 16)) > 0.6
    canvas = letterbox.masks_to_canvas(mask)
    x1, y1, x2, y2 = map(int, letterbox.region)
    for one, source in zip(canvas, mask, strict=True):
        differs = one[y1:y2, x1:x2] != plain_mask(source, y2 - y1, x2 - x1)
        assert differs.mean() < 0.002  # ties at exactly one half may round either way
    assert canvas.sum() == canvas[:, y1:y2, x1:x2].sum()


@given(
    box=st.tuples(*[st.integers(0, 200)] * 2, *[st.integers(20, 90)] * 2),
    size=st.sampled_from([(300, 400), (300, 300), (500, 290)]),
)
def test_masks_and_boxes_stay_together(box: tuple[int, ...], size: tuple[int, int]) -> None:
    letterbox = Letterbox.from_params(SMALL, *size)
    x, y, width, height = box
    mask = np.zeros((1, *size), bool)
    mask[0, y : y + height, x : x + width] = True
    ys, xs = np.nonzero(letterbox.masks_to_canvas(mask)[0])
    around = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]])
    boxes = letterbox.boxes_to_canvas(np.array([[x, y, x + width, y + height]], np.float32))
    boxes = boxes.clip(0, [letterbox.region[2], letterbox.region[3]] * 2)
    assert np.abs(around - boxes).max() <= 1


def test_nothing_to_move() -> None:
    assert LETTERBOX.masks_to_canvas(np.zeros((0, 300, 400), bool)).shape == (0, 800, 1088)
    assert LETTERBOX.boxes_to_canvas(torch.zeros((0, 4))).shape == (0, 4)
    assert LETTERBOX.boxes_to_source(np.zeros((0, 4), np.float32)).shape == (0, 4)


def test_refuses_other_sizes() -> None:
    with pytest.raises(ValueError, match="300 x 400"):
        LETTERBOX.image_to_canvas(np.zeros((400, 300, 3), np.uint8))
    with pytest.raises(ValueError, match="300 x 400"):
        LETTERBOX.masks_to_canvas(np.zeros((1, 400, 300), bool))

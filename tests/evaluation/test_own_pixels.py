"""A set of pictures of many sizes, evaluated in each one's own pixels, against plain reckoning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from src.data.dataset import DatasetFile
from src.data.letterbox import Letterbox
from src.data.prepared import Example, PreparedFile
from src.evaluation.detection import evaluate_detections
from src.evaluation.instances import GroundTruth, Instances, coco_ground_truth, coco_results
from src.evaluation.predictor import to_source
from src.evaluation.rpn_metrics import proposal_recall
from src.sources.assignment import CLASSES
from src.structures.detections import Detections
from src.structures.sample import Sample
from tests.factories import make_prepared, make_samples

SIZES = [(300, 400), (400, 300), (80, 460), (460, 70), (48, 36), (900, 1200)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("own"), 6, 5, sizes=SIZES).parent


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return make_samples(6, 5, sizes=SIZES)


@pytest.fixture
def examples(folder: Path) -> Iterator[list[Example]]:
    with PreparedFile(folder / "prepared.h5") as file:
        yield list(file.examples(range(6)))


@pytest.fixture
def truth(folder: Path) -> list[GroundTruth]:
    with DatasetFile(folder / "dataset.h5") as dataset:
        return [GroundTruth.from_dataset(dataset, row, row + 1) for row in range(6)]


def seen_on_the_canvas(example: Example, shift: float = 0.0) -> Detections:
    """The ground truth as a detector would say it, `shift` canvas pixels to the right."""
    target = example.target
    count = len(target.boxes)
    boxes = target.boxes + torch.tensor([shift, 0, shift, 0])
    return Detections(boxes, target.labels, torch.linspace(0.9, 0.8, count), boxes, torch.ones(count, 28, 28))


def plain_box(box: np.ndarray, height: int, width: int) -> list[float]:
    """From the canvas of 96 x 160 to the picture, number by number."""
    scale = min(96 / height, 128 / width)
    rows, columns = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
    left, top = (160 - columns) // 2, (96 - rows) // 2
    return [
        (box[0] - left) * width / columns,
        (box[1] - top) * height / rows,
        (box[2] - left) * width / columns,
        (box[3] - top) * height / rows,
    ]


def test_ground_truth_is_the_sample_s_own(truth: list[GroundTruth], samples: list[Sample]) -> None:
    for one, sample, size in zip(truth, samples, SIZES, strict=True):
        assert (one.height, one.width) == size
        assert np.array_equal(one.boxes, sample.boxes)
        assert one.masks == list(sample.masks.codes)
        areas = [int(mask.sum()) for mask in sample.masks]
        assert [entry["area"] for entry in coco_ground_truth([one], CLASSES)["annotations"]] == areas


def test_what_is_found_comes_back_to_its_own_picture(examples: list[Example], truth: list[GroundTruth]) -> None:
    for example, one, size in zip(examples, truth, SIZES, strict=True):
        found = to_source(seen_on_the_canvas(example), example.letterbox, 0.5)
        expected = [plain_box(box, *size) for box in example.target.boxes.numpy()]
        np.testing.assert_allclose(found.boxes, expected, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(found.boxes, one.boxes, atol=2e-4 * max(size))
        assert all(mask["size"] == list(size) for mask in found.masks or [])


def test_ap_is_reckoned_in_own_pixels(examples: list[Example], truth: list[GroundTruth], samples: list[Sample]) -> None:
    """A shift of three canvas pixels is one of 3 / scale own ones: IoUs as by hand, and AP50 by them."""
    annotations, shift = coco_ground_truth(truth, CLASSES), 3.0
    exact = [to_source(seen_on_the_canvas(one), one.letterbox, 0.5) for one in examples]
    assert evaluate_detections(annotations, coco_results(truth, exact)).box.ap == pytest.approx(1.0)
    moved = [to_source(seen_on_the_canvas(one, shift), one.letterbox, 0.5) for one in examples]
    ious = []
    for sample, size in zip(samples, SIZES, strict=True):
        own = shift / min(96 / size[0], 128 / size[1])
        widths = sample.boxes[:, 2] - sample.boxes[:, 0]
        ious += ((widths - own).clip(0) / (widths + own)).tolist()
    measured = [plain_iou(one.boxes, found) for one, found in zip(truth, moved, strict=True)]
    np.testing.assert_allclose(np.concatenate(measured), ious, atol=0.02)  # the canvas has whole columns
    recalls = [
        proposal_recall([one.proposals for one in moved], [one.boxes for one in truth], (200,), t) for t in (0.5, 0.75)
    ]
    for recall, threshold in zip(recalls, (0.5, 0.75), strict=True):
        assert recall["200"] == pytest.approx(np.mean(np.array(ious) >= threshold), abs=0.09)


def plain_iou(truth: torch.Tensor, found: Instances) -> list[float]:
    ious = []
    for (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) in zip(truth.tolist(), found.boxes.tolist(), strict=True):
        shared = max(0.0, min(ax2, bx2) - max(ax1, bx1)) * max(0.0, min(ay2, by2) - max(ay1, by1))
        ious.append(shared / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared))
    return ious


def test_sizes_are_those_of_own_pixels(examples: list[Example], truth: list[GroundTruth]) -> None:
    """On the canvas every object of 1200 x 900 is small; in its own pixels it is large."""
    one, example = truth[5], examples[5]
    assert example.letterbox == Letterbox(96, 128, 160, 900, 1200)
    found = to_source(seen_on_the_canvas(example), example.letterbox, 0.5)
    entries = evaluate_detections(coco_ground_truth([one], CLASSES), coco_results([one], [found])).as_metrics()
    assert (entries["box_ap_small"], entries["box_ap_medium"]) == (None, None)
    assert entries["box_ap_large"] == pytest.approx(1.0)

"""When two ways to detect agree."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from src.evaluation.instances import Instances
from src.evaluation.rle import encode_masks
from src.sources.assignment import CLASSES
from tools.export.parity import Parity, as_instances, compare

SIZE = (60, 80)
BOXES = [[10.0, 10, 40, 50], [12.0, 10, 40, 50], [50.0, 5, 70, 55]]


def instances(boxes: list[list[float]] = BOXES, labels: tuple[int, ...] = (1, 2, 1)) -> Instances:
    """Masks are the boxes, to whole pixels."""
    masks = np.zeros((len(boxes), *SIZE), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[round(y1) : round(y2), round(x1) : round(x2)] = True
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    scores = torch.linspace(0.9, 0.5, len(boxes))
    return Instances(corners, torch.tensor(labels[: len(boxes)], dtype=torch.int64), scores, encode_masks(masks))


def moved(shift: float) -> Instances:
    """Boxes alone."""
    return dataclasses.replace(instances(), boxes=instances().boxes + shift)


def test_the_same_in_any_order_agree() -> None:
    found = compare(instances(), instances().keep(torch.tensor([2, 0, 1])))
    assert found == Parity(1, 3, 3, 3, 0.0, 0.0, 1.0)
    assert found.holds


@pytest.mark.parametrize(("shift", "alike"), [(0.4, 3), (0.6, 0)])
def test_boxes_may_differ_by_half_a_pixel(shift: float, alike: int) -> None:
    found = compare(instances(), moved(shift))
    assert (found.alike, found.holds) == (alike, alike == 3)
    assert found.shift == pytest.approx(shift if alike else 0, abs=1e-5)


def test_labels_are_equal() -> None:
    assert compare(instances(), instances(labels=(1, 3, 1))).alike == 2


@pytest.mark.parametrize(("rows", "alike"), [(0, 3), (1, 2)])  # of 50: an IoU of 0.98 is just enough, of 0.96 is not
def test_masks_overlap(rows: int, alike: int) -> None:
    codes = instances([*BOXES[:2], [50.0, 5, 70, 54 - rows]]).masks
    found = compare(instances(), dataclasses.replace(instances(), masks=codes))
    assert found.alike == alike
    assert found.iou == pytest.approx(0.98 if alike == 3 else 1.0)


def test_one_too_many_and_one_too_few_do_not_agree() -> None:
    for rows in ([0, 1], [0, 1, 2, 2]):
        found = compare(instances(), instances().keep(torch.tensor(rows)))
        assert (found.alike, found.holds) == (min(len(rows), 3), False)
    assert not (compare(instances(), instances([])) + compare(instances(), instances())).holds
    assert compare(instances([]), instances([])).holds


def test_empty_masks_of_thin_objects_are_alike() -> None:
    thin = instances([[5.1, 5, 5.3, 9]])
    assert compare(thin, thin).holds


def test_what_the_example_gives_is_the_same() -> None:
    whole = instances()
    masks = np.zeros((3, *SIZE), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, BOXES, strict=True):
        mask[int(y1) : int(y2), int(x1) : int(x2)] = True
    rows = zip(whole.labels.tolist(), whole.scores.tolist(), BOXES, masks, strict=True)
    found = as_instances([(CLASSES.name_of(label), score, box, mask) for label, score, box, mask in rows], CLASSES)
    assert compare(whole, found) == Parity(1, 3, 3, 3, 0.0, 0.0, 1.0)
    assert len(as_instances([], CLASSES)) == 0

"""AP by size and average recall against pycocotools, in pictures large enough for all of COCO's sizes."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from src.evaluation.detection import AveragePrecision, evaluate_detections
from src.evaluation.instances import GroundTruth, Instances, coco_ground_truth, coco_results
from src.sources.assignment import CLASSES
from src.structures.masks import Masks

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10", "ar_100")


def reference(ground_truth: dict[str, Any], results: list[dict[str, Any]], kind: str, label: int = 0) -> list[Any]:
    """The first nine of pycocotools' twelve numbers; of one class, where one is named."""
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = copy.deepcopy(ground_truth)
        known.createIndex()
        evaluator = COCOeval(known, known.loadRes(copy.deepcopy(results)), kind)
        if label:
            evaluator.params.catIds = [label]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [None if value == -1 else pytest.approx(float(value), abs=1e-6) for value in evaluator.stats[:9]]


def numbers(found: AveragePrecision) -> list[float | None]:
    return [getattr(found, name) for name in NAMES]


def masks_of(boxes: np.ndarray, height: int, width: int) -> list[Any]:
    """Boxes with a corner cut off, so that areas of boxes and of masks are of other sizes."""
    pixels = np.zeros((len(boxes), height, width), bool)
    for mask, (x1, y1, x2, y2) in zip(pixels, boxes.round().astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
        mask[y1 : (y1 + y2) // 2, x1 : (x1 + x2) // 2] = False
    return list(Masks.from_pixels(pixels).codes)


def boxes_in(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    """Of sides from 6 pixels to the picture's."""
    sides = np.exp(rng.uniform(np.log(6), np.log(200), (count, 2))).clip(max=[width - 1, height - 1])
    corners = rng.uniform(0, 1, (count, 2)) * ([width, height] - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def scene(seed: int, image_id: int) -> tuple[GroundTruth, Instances]:
    """A picture of its own size: objects and crowds, detections near them and elsewhere."""
    rng = np.random.default_rng((seed, image_id))
    height, width = int(rng.integers(210, 330)), int(rng.integers(210, 330))
    boxes = boxes_in(rng, int(rng.integers(0, 9)), height, width)
    labels = torch.from_numpy(rng.integers(1, 4, len(boxes)))
    truth = GroundTruth(
        image_id=image_id,
        name=str(image_id),
        height=height,
        width=width,
        boxes=torch.from_numpy(boxes),
        labels=labels,
        masks=masks_of(boxes, height, width),
        crowd=torch.from_numpy(rng.random(len(boxes)) < 0.15),
        unlabeled_boxes=torch.zeros(0, 4),
        unlabeled_labels=torch.zeros(0, dtype=torch.int64),
    )
    near = np.repeat(boxes, 2, axis=0)
    sides = np.tile(near[:, 2:] - near[:, :2], 2)
    near = (near + rng.normal(0, 0.08, near.shape) * sides).clip(0, [width, height] * 2).astype(np.float32)
    near = near[((near[:, 2:] - near[:, :2]) > 2).all(axis=1)]
    kinds = torch.from_numpy(rng.integers(1, 4, len(near) + 12))
    kinds[: len(near)] = torch.where(torch.rand(len(near)) < 0.8, kinds[: len(near)].clamp(max=1), kinds[: len(near)])
    where = np.concatenate([near, boxes_in(rng, 12, height, width)])
    scores = torch.from_numpy(rng.random(len(where)).astype(np.float32))
    return truth, Instances(torch.from_numpy(where), kinds, scores, masks_of(where, height, width))


@pytest.mark.parametrize("seed", range(6))
def test_all_nine_numbers_are_pycocotools(seed: int) -> None:
    truths, finds = zip(*(scene(seed, number) for number in range(1, 9)), strict=True)
    ground_truth, results = coco_ground_truth(truths, CLASSES), coco_results(truths, finds)
    metrics = evaluate_detections(ground_truth, results)
    assert numbers(metrics.box) == reference(ground_truth, results, "bbox")
    assert numbers(metrics.mask) == reference(ground_truth, results, "segm")
    assert None not in numbers(metrics.box)
    for label, one in enumerate(metrics.by_class.values(), start=1):
        assert numbers(one.box) == reference(ground_truth, results, "bbox", label)
        assert numbers(one.mask) == reference(ground_truth, results, "segm", label)


def one_object(side: int) -> tuple[GroundTruth, Instances]:
    """A square of `side` pixels and a detection of exactly that."""
    box = torch.tensor([[10.0, 10, 10 + side, 10 + side]])
    pixels = np.zeros((1, 300, 400), bool)
    pixels[0, 10 : 10 + side, 10 : 10 + side] = True
    codes, none = list(Masks.from_pixels(pixels).codes), torch.zeros(0, dtype=torch.int64)
    label = torch.tensor([1])
    truth = GroundTruth(1, "a", 300, 400, box, label, codes, torch.tensor([False]), torch.zeros(0, 4), none)
    return truth, Instances(box, label, torch.tensor([0.9]), codes)


@pytest.mark.parametrize(
    ("side", "sizes"),
    [(31, {"small"}), (32, {"small", "medium"}), (33, {"medium"}), (96, {"medium", "large"}), (97, {"large"})],
)
def test_borders_of_the_sizes_are_cocos(side: int, sizes: set[str]) -> None:
    """An area on a border counts on both sides of it, as pycocotools has it; a size without objects is undefined."""
    truth, found = one_object(side)
    entries = evaluate_detections(coco_ground_truth([truth], CLASSES), coco_results([truth], [found])).as_metrics()
    for kind in ("box", "mask"):
        measured = {name: entries[f"{kind}_ap_{name}"] for name in ("small", "medium", "large")}
        assert measured == {name: 1.0 if name in sizes else None for name in measured}
        assert [entries[f"{kind}_ar_{most}"] for most in (1, 10, 100)] == [1.0] * 3


def test_recall_counts_the_best_detections_of_an_image() -> None:
    """Eleven objects of a class, all found: the best detection finds one of them, the best ten find ten."""
    truth, _ = one_object(20)
    boxes = torch.tensor([[30.0 * k, 0, 30 * k + 20, 20] for k in range(11)])
    codes = masks_of(boxes.numpy(), 300, 400)
    labels = torch.ones(11, dtype=torch.int64)
    no_crowd = torch.zeros(11, dtype=torch.bool)
    many = dataclasses.replace(truth, boxes=boxes, labels=labels, masks=codes, crowd=no_crowd)
    found = Instances(boxes, labels, torch.linspace(0.9, 0.1, 11), codes)
    box = evaluate_detections(coco_ground_truth([many], CLASSES), coco_results([many], [found])).box
    assert [box.ar_1, box.ar_10, box.ar_100] == pytest.approx([1 / 11, 10 / 11, 1.0])

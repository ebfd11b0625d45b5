"""COCO evaluation beside pycocotools' on random scenes."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from benchmarks.interleaved import BenchmarkCase
from src.evaluation.detection import evaluate_detections
from src.evaluation.instances import GroundTruth, Instances, coco_ground_truth, coco_results
from src.evaluation.rle import encode_masks
from src.structures.classes import Classes

EVALUATED, NAMES = 200, Classes(("one", "two", "three"))  # images, and the classes of what is in them


def evaluation() -> BenchmarkCase:
    """Box and mask AP of random detections in pictures of 300 x 400."""
    draw = torch.Generator().manual_seed(3)
    truth, found = zip(*(scene(number, draw) for number in range(1, EVALUATED + 1)), strict=True)
    annotations, results = coco_ground_truth(list(truth), NAMES), coco_results(list(truth), list(found))

    def ours() -> list[float | None]:
        metrics = evaluate_detections(annotations, results)
        return [metrics.box.ap, metrics.mask.ap]

    def theirs() -> list[float]:
        return [by_pycocotools(annotations, results, kind) for kind in ("bbox", "segm")]

    apart = max(abs((a or 0.0) - b) for a, b in zip(ours(), theirs(), strict=True))
    return BenchmarkCase(
        work="COCO evaluation, box and mask",
        conditions=f"{EVALUATED} images, {len(annotations['annotations'])} objects, {len(results):,} detections",
        implementations={"ours": ours, "pycocotools": theirs},
        goal=3.0,
        agreement=f"largest difference of AP: {apart:.1e}",
    )


def scene(number: int, draw: torch.Generator) -> tuple[GroundTruth, Instances]:
    """Two objects and 50 detections, some of which are shifted copies of the objects."""
    height, width = 300, 400
    corners = torch.rand(2, 2, generator=draw) * torch.tensor([200.0, 150.0])
    boxes = torch.cat([corners, corners + 30 + torch.rand(2, 2, generator=draw) * 110], dim=1)
    labels = torch.randint(1, NAMES.count, (2,), generator=draw)
    noise = torch.cat([torch.rand(40, 2, generator=draw) * 180, 200 + torch.rand(40, 2, generator=draw) * 90], dim=1)
    near = boxes.repeat(5, 1) + 12 * torch.randn(10, 4, generator=draw)
    detected = torch.cat([near, noise])
    found_labels = torch.cat([labels.repeat(5), torch.randint(1, NAMES.count, (40,), generator=draw)])
    truth = GroundTruth(
        image_id=number,
        name=f"scene {number}",
        height=height,
        width=width,
        boxes=boxes,
        labels=labels,
        masks=encode_masks(ellipses(boxes, height, width)),
        crowd=torch.zeros(2, dtype=torch.bool),
        unlabeled_boxes=torch.zeros(0, 4),
        unlabeled_labels=torch.zeros(0, dtype=torch.int64),
    )
    scores = torch.rand(50, generator=draw)
    order = scores.argsort(descending=True)
    masks = encode_masks(ellipses(detected[order], height, width))
    return truth, Instances(detected[order], found_labels[order], scores[order], masks)


def ellipses(boxes: Tensor, height: int, width: int) -> Tensor:
    """Masks of the ellipses in the boxes."""
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    centers, halves = (boxes[:, :2] + boxes[:, 2:]) / 2, ((boxes[:, 2:] - boxes[:, :2]) / 2).clamp(min=0.5)
    across = (x - centers[:, 0, None, None]) / halves[:, 0, None, None]
    down = (y - centers[:, 1, None, None]) / halves[:, 1, None, None]
    return across.square() + down.square() <= 1


def by_pycocotools(annotations: dict[str, Any], results: list[dict[str, Any]], kind: str) -> float:
    """AP at IoU 0.50:0.95, pycocotools' messages left out."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(annotations)
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), kind)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return float(evaluator.stats[0])

"""The operators beside torchvision's and pycocotools': RoIAlign, matching, pasting, COCO evaluation."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops import box_iou as torchvision_iou

from benchmarks.interleaved import BenchmarkCase
from src.detector.fpn import STRIDES
from src.evaluation.detection import evaluate_detections
from src.evaluation.instances import GroundTruth, Instances, coco_ground_truth, coco_results
from src.evaluation.rle import encode_masks
from src.ops.anchors import PYRAMID_STRIDES, grid_anchors, size_ratio_anchors
from src.ops.boxes import encode
from src.ops.masks import paste_masks
from src.ops.matching import EVERYWHERE, MatchThresholds, label_anchors
from src.ops.roi_align import multiscale_roi_align

CANVAS = (800, 1088)  # H, W
IMAGES, PROPOSALS, CHANNELS = 2, 200, 256
EVALUATED, CLASSES = 200, 3  # images of the evaluation


def cpu_bf16() -> torch.autocast:
    """PyTorch's mixed precision in bf16 on the processor, as the baselines are run under it."""
    return torch.autocast("cpu", dtype=torch.bfloat16)


def cases() -> Iterator[Callable[[], BenchmarkCase]]:
    """Makers of all cases; a case holds its tensors only while it runs."""
    for cells in (7, 14):
        for backward in (False, True):
            yield functools.partial(roi_align, cells, backward)
    yield matching
    yield pasting
    yield evaluation


def random_boxes(count: int, draw: torch.Generator, longest: float = 600.0) -> Tensor:
    """Boxes of 16 to `longest` pixels a side, evenly over the logarithm, clipped to the canvas."""
    canvas = torch.tensor([CANVAS[1], CANVAS[0]], dtype=torch.float32)
    centers = torch.rand(count, 2, generator=draw) * canvas
    halves = 8 * (longest / 16) ** torch.rand(count, 2, generator=draw)
    return torch.cat([(centers - halves).clamp(min=0), torch.minimum(centers + halves, canvas)], dim=1)


def roi_align(cells: int, backward: bool) -> BenchmarkCase:
    """RoIAlign over P2..P5, forward, or forward with backward."""
    draw = torch.Generator().manual_seed(0)
    planes = [torch.randn(IMAGES, CHANNELS, CANVAS[0] // s, CANVAS[1] // s, generator=draw) for s in STRIDES]
    rows = [level.contiguous(memory_format=torch.channels_last) for level in planes]
    boxes = [random_boxes(PROPOSALS, draw) for _ in range(IMAGES)]
    numbered = torch.cat([torch.nn.functional.pad(b, (1, 0), value=i) for i, b in enumerate(boxes)])
    theirs = MultiScaleRoIAlign(["0", "1", "2", "3"], cells, sampling_ratio=2)

    def pool_ours(levels: list[Tensor], aligned: bool = True) -> Tensor:
        return multiscale_roi_align(levels, numbered, cells, STRIDES, aligned=aligned)

    def pool_theirs(levels: list[Tensor]) -> Tensor:
        return theirs({str(number): level for number, level in enumerate(levels)}, boxes, [CANVAS] * IMAGES)

    def under_autocast(levels: list[Tensor]) -> Tensor:
        with cpu_bf16():
            return pool_theirs(levels)

    run = with_gradient if backward else without_gradient
    halves = [level.bfloat16() for level in rows]
    difference = float((pool_ours(rows, aligned=False) - pool_theirs(planes)).abs().max())
    return BenchmarkCase(
        work=f"RoIAlign P={cells}, {'forward and backward' if backward else 'forward'}",
        conditions=f"{IMAGES} images x {PROPOSALS} proposals over P2..P5 of {CANVAS[0]}x{CANVAS[1]}, "
        f"{CHANNELS} channels",
        implementations={
            "ours, bf16": lambda: run(pool_ours, halves),
            "torchvision, float32": lambda: run(pool_theirs, planes),
            "torchvision, bf16 autocast": lambda: run(under_autocast, halves),
            "ours, float32": lambda: run(pool_ours, rows),
        },
        goal=4.0 if backward else 8.0,
        agreement=f"largest difference in float32 with torchvision's unaligned boxes: {difference:.1e}",
    )


def without_gradient(pool: Callable[[list[Tensor]], Tensor], levels: list[Tensor]) -> None:
    """One pooling without a graph."""
    with torch.no_grad():
        pool(levels)


def with_gradient(pool: Callable[[list[Tensor]], Tensor], levels: list[Tensor]) -> None:
    """One pooling and its gradient in every level."""
    leaves = [level.detach().requires_grad_() for level in levels]
    pooled = pool(leaves)
    torch.autograd.grad(pooled, leaves, torch.ones_like(pooled))


def matching() -> BenchmarkCase:
    """Labels and deltas of one image's anchors, of which all lie in reach."""
    draw = torch.Generator().manual_seed(1)
    grids = [(math.ceil(CANVAS[0] / stride), math.ceil(CANVAS[1] / stride)) for stride in PYRAMID_STRIDES]
    anchors = torch.cat(
        [
            grid_anchors(size_ratio_anchors(size, (0.5, 1.0, 2.0)).round(), *grid, stride)
            for size, grid, stride in zip((32, 64, 128, 256, 512), grids, PYRAMID_STRIDES, strict=True)
        ]
    )
    boxes = random_boxes(2, draw)
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))

    def ours() -> Tensor:
        labels = label_anchors(anchors, boxes, EVERYWHERE, MatchThresholds(0.7, 0.3))
        positive = (labels >= 0).nonzero().squeeze(1)
        encode(boxes[labels[positive]], anchors[positive])
        return labels

    def theirs() -> Tensor:
        matches = matcher(torchvision_iou(boxes, anchors))
        coder.encode([boxes[matches.clamp(min=0)]], [anchors])
        return matches

    same = int((ours() == theirs()).sum())
    return BenchmarkCase(
        work="Matching and encoding",
        conditions=f"one image's {len(anchors):,} anchors, {len(boxes)} objects; torchvision encodes all anchors, "
        "ours those that the loss can use",
        implementations={"ours, float32": ours, "torchvision, float32": theirs},
        goal=1.0,
        agreement=f"{same:,} of {len(anchors):,} labels alike",
    )


def pasting() -> BenchmarkCase:
    """100 masks of 28 x 28 into a picture."""
    draw = torch.Generator().manual_seed(2)
    masks, boxes = torch.rand(100, 28, 28, generator=draw), random_boxes(100, draw)
    return BenchmarkCase(
        work="Pasting 100 masks",
        conditions=f"28x28 cells into {CANVAS[0]}x{CANVAS[1]} pixels, boxes of 16 to 600 pixels a side",
        implementations={
            "ours, float32": lambda: paste_masks(masks, boxes, *CANVAS),
            "torchvision, float32": lambda: paste_masks_in_image(masks[:, None], boxes, CANVAS),
        },
        goal=1.0,
        agreement="by design apart: torchvision rounds boxes to whole pixels",
    )


def evaluation() -> BenchmarkCase:
    """Box and mask AP of random detections in pictures of 300 x 400."""
    draw = torch.Generator().manual_seed(3)
    truth, found = zip(*(scene(number, draw) for number in range(1, EVALUATED + 1)), strict=True)
    annotations, results = coco_ground_truth(list(truth)), coco_results(list(truth), list(found))

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
    labels = torch.randint(1, CLASSES + 1, (2,), generator=draw)
    noise = torch.cat([torch.rand(40, 2, generator=draw) * 180, 200 + torch.rand(40, 2, generator=draw) * 90], dim=1)
    near = boxes.repeat(5, 1) + 12 * torch.randn(10, 4, generator=draw)
    detected = torch.cat([near, noise])
    found_labels = torch.cat([labels.repeat(5), torch.randint(1, CLASSES + 1, (40,), generator=draw)])
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

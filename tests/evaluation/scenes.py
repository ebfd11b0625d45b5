"""Small pictures with known content, made by hand or at random, for the evaluation tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from src.evaluation.instances import GroundTruth, Instances
from src.evaluation.rle import encode_masks

HEIGHT, WIDTH = 40, 60
SHAPES = 5
Box = Sequence[float]


def as_boxes(boxes: Sequence[Box]) -> torch.Tensor:
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def box_masks(boxes: Sequence[Box]) -> np.ndarray:
    """The pixels of boxes, their corners cut to whole numbers."""
    masks = np.zeros((len(boxes), HEIGHT, WIDTH), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[int(y1) : int(y2), int(x1) : int(x2)] = True
    return masks


def shape_masks(boxes: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """One mask a box, the pixels whose centers lie in a shape: 0 the whole box, 1 ellipse, 2 ring, 3 L, 4 triangle."""
    ys, xs = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    masks = np.zeros((len(boxes), HEIGHT, WIDTH), bool)
    for mask, (x1, y1, x2, y2), shape in zip(masks, boxes, shapes, strict=True):
        u, v = 2 * (xs - x1) / (x2 - x1) - 1, 2 * (ys - y1) / (y2 - y1) - 1  # -1 to 1 inside the box
        radius, box = np.hypot(u, v), np.maximum(abs(u), abs(v)) <= 1
        cut = (box, radius <= 1, (radius <= 1) & (radius > 0.5), np.maximum(-u, v) > 0.3, v > u)
        mask[:] = box & cut[shape]
    return masks


def truth(
    boxes: Sequence[Box] = (),
    labels: Sequence[int] = (),
    crowd: Sequence[bool] | None = None,
    unlabeled: Sequence[Box] = (),
    image_id: int = 0,
    *,
    masks: np.ndarray | None = None,
) -> GroundTruth:
    """A picture with objects, each of them as its box filled in unless `masks` [n, HEIGHT, WIDTH] says otherwise."""
    return GroundTruth(
        image_id=image_id,
        name=f"test/{image_id:06d}",
        height=HEIGHT,
        width=WIDTH,
        boxes=as_boxes(boxes),
        labels=torch.tensor(labels, dtype=torch.int64),
        masks=encode_masks(box_masks(boxes) if masks is None else masks),
        crowd=torch.tensor([False] * len(boxes) if crowd is None else crowd, dtype=torch.bool),
        unlabeled_boxes=as_boxes(unlabeled),
        unlabeled_labels=torch.ones(len(unlabeled), dtype=torch.int64),
    )


def found(
    boxes: Sequence[Box] = (),
    labels: Sequence[int] = (),
    scores: Sequence[float] = (),
    *,
    masks: np.ndarray | None = None,
    proposals: Sequence[Box] | None = None,
) -> Instances:
    """Instances, each of them as its box filled in unless `masks` [n, HEIGHT, WIDTH] says otherwise."""
    return Instances(
        boxes=as_boxes(boxes),
        labels=torch.tensor(labels, dtype=torch.int64),
        scores=torch.tensor(scores, dtype=torch.float32),
        masks=encode_masks(box_masks(boxes) if masks is None else masks),
        proposals=None if proposals is None else as_boxes(proposals),
    )


def random_scene(seed: int, images: int = 6, ties: bool = False) -> tuple[list[GroundTruth], list[Instances]]:
    """Objects, crowd regions and detections near and far, some classes and images empty; quarter pixels, any shape."""
    draw = np.random.default_rng(seed)
    truths, finds = [], []
    for image_id in range(images):
        count = int(draw.integers(0, 5))
        boxes = _random_boxes(draw, count)
        crowd = (draw.random(count) < 0.25).tolist()
        kinds = draw.integers(1, 3, count)
        shapes = draw.integers(0, SHAPES, count)
        masks = shape_masks(boxes, shapes)
        truths.append(truth(boxes.tolist(), kinds.tolist(), crowd, image_id=image_id + 3, masks=masks))
        picked = draw.integers(0, count, int(draw.integers(0, 9))) if count else np.zeros(0, int)
        moved = np.clip(boxes[picked] + draw.integers(-8, 9, (len(picked), 4)) / 4, 0, [WIDTH, HEIGHT] * 2)
        far = _random_boxes(draw, int(draw.integers(0, 3)))
        chosen = np.concatenate([moved, far])
        right = draw.random(len(picked)) < 0.8
        labels = np.where(right, kinds[picked], draw.integers(1, 4, len(picked)))
        labels = np.concatenate([labels, draw.integers(1, 4, len(far))])
        alike = draw.random(len(picked)) < 0.7
        shapes = np.where(alike, shapes[picked], draw.integers(0, SHAPES, len(picked)))
        shapes = np.concatenate([shapes, draw.integers(0, SHAPES, len(far))])
        solid = (chosen[:, 2:] > chosen[:, :2]).all(1)
        chosen, labels, shapes = chosen[solid], labels[solid], shapes[solid]
        scores = draw.random(len(chosen)).round(1 if ties else 6)
        finds.append(found(chosen.tolist(), labels.tolist(), scores.tolist(), masks=shape_masks(chosen, shapes)))
    return truths, finds


def _random_boxes(draw: np.random.Generator, count: int) -> np.ndarray:
    low = draw.integers(0, [4 * (WIDTH - 12), 4 * (HEIGHT - 12)], (count, 2)) / 4
    size = draw.integers(16, 49, (count, 2)) / 4 * draw.integers(1, 3, (count, 1))
    return np.concatenate([low, np.minimum(low + size, [WIDTH, HEIGHT])], 1)

"""Small pictures with known content, made by hand or at random, for the evaluation tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from src.evaluation.instances import Detections, GroundTruth
from src.evaluation.rle import encode_masks

HEIGHT, WIDTH = 40, 60
Box = Sequence[float]


def as_boxes(boxes: Sequence[Box]) -> torch.Tensor:
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def box_masks(boxes: Sequence[Box]) -> np.ndarray:
    """The pixels of whole-numbered boxes."""
    masks = np.zeros((len(boxes), HEIGHT, WIDTH), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[int(y1) : int(y2), int(x1) : int(x2)] = True
    return masks


def truth(
    boxes: Sequence[Box] = (),
    labels: Sequence[int] = (),
    crowd: Sequence[bool] | None = None,
    hidden: Sequence[Box] = (),
    image_id: int = 0,
) -> GroundTruth:
    return GroundTruth(
        image_id=image_id,
        name=f"test/{image_id:06d}",
        height=HEIGHT,
        width=WIDTH,
        boxes=as_boxes(boxes),
        labels=torch.tensor(labels, dtype=torch.int64),
        masks=encode_masks(box_masks(boxes)),
        crowd=torch.tensor([False] * len(boxes) if crowd is None else crowd, dtype=torch.bool),
        hidden_boxes=as_boxes(hidden),
        hidden_labels=torch.ones(len(hidden), dtype=torch.int64),
    )


def found(boxes: Sequence[Box] = (), labels: Sequence[int] = (), scores: Sequence[float] = ()) -> Detections:
    return Detections(
        boxes=as_boxes(boxes),
        labels=torch.tensor(labels, dtype=torch.int64),
        scores=torch.tensor(scores, dtype=torch.float32),
        masks=encode_masks(box_masks(boxes)),
    )


def random_scene(seed: int, images: int = 6, ties: bool = False) -> tuple[list[GroundTruth], list[Detections]]:
    """Objects, crowd regions and detections near and far, some classes and images empty."""
    draw = np.random.default_rng(seed)
    truths, finds = [], []
    for image_id in range(images):
        count = int(draw.integers(0, 5))
        boxes = _random_boxes(draw, count)
        crowd = (draw.random(count) < 0.25).tolist()
        kinds = draw.integers(1, 3, count)
        truths.append(truth(boxes.tolist(), kinds.tolist(), crowd, image_id=image_id + 3))
        picked = draw.integers(0, count, int(draw.integers(0, 9))) if count else np.zeros(0, int)
        moved = np.clip(boxes[picked] + draw.integers(-2, 3, (len(picked), 4)), 0, [WIDTH, HEIGHT] * 2)
        far = _random_boxes(draw, int(draw.integers(0, 3)))
        chosen = np.concatenate([moved, far])
        right = draw.random(len(picked)) < 0.8
        labels = np.where(right, kinds[picked], draw.integers(1, 4, len(picked)))
        labels = np.concatenate([labels, draw.integers(1, 4, len(far))])
        solid = (chosen[:, 2:] > chosen[:, :2]).all(1)
        chosen, labels = chosen[solid], labels[solid]
        scores = draw.random(len(chosen)).round(1 if ties else 6)
        finds.append(found(chosen.tolist(), labels.tolist(), scores.tolist()))
    return truths, finds


def _random_boxes(draw: np.random.Generator, count: int) -> np.ndarray:
    low = draw.integers(0, [WIDTH - 12, HEIGHT - 12], (count, 2))
    size = draw.integers(4, 13, (count, 2)) * draw.integers(1, 3, (count, 1))
    return np.concatenate([low, np.minimum(low + size, [WIDTH, HEIGHT])], 1).astype(float)

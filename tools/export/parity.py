"""Whether exported files find what the pipeline finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from src.evaluation.instances import Instances
from src.evaluation.rle import encode_masks, overlaps
from src.structures.classes import Classes

LARGEST_SHIFT: Final = 0.5  # pixels of the picture, of any side of a box
LEAST_IOU: Final = 0.98  # of masks


@dataclass(frozen=True)
class Parity:
    """Two ways to detect on the same pictures.

    Attributes:
        pictures: that were looked at.
        expected: detections of the one.
        found: detections of the other.
        alike: pairs with equal labels, boxes within `LARGEST_SHIFT` and masks from `LEAST_IOU` on.
        shift: largest difference of a box's side among these, pixels.
        score: largest difference of their scores.
        iou: least IoU of their masks.
    """

    pictures: int = 0
    expected: int = 0
    found: int = 0
    alike: int = 0
    shift: float = 0.0
    score: float = 0.0
    iou: float = 1.0

    def __add__(self, other: Parity) -> Parity:
        return Parity(
            self.pictures + other.pictures,
            self.expected + other.expected,
            self.found + other.found,
            self.alike + other.alike,
            max(self.shift, other.shift),
            max(self.score, other.score),
            min(self.iou, other.iou),
        )

    @property
    def holds(self) -> bool:
        """Whether each detection of the one has its own of the other."""
        return self.alike == self.expected == self.found


def compare(expected: Instances, found: Instances) -> Parity:
    """Detections of one picture: each of `expected` with the nearest one of its label that is left."""
    shifts = (expected.boxes[:, None] - found.boxes[None]).abs().amax(dim=2)  # [e, f]
    shifts[expected.labels[:, None] != found.labels[None]] = torch.inf
    total = Parity(1, len(expected), len(found))
    for row in range(len(expected) if len(found) else 0):
        column = int(shifts[row].argmin())
        shift, iou = float(shifts[row, column]), _mask_iou(expected, row, found, column)
        if shift <= LARGEST_SHIFT and iou >= LEAST_IOU:
            score = float((expected.scores[row] - found.scores[column]).abs())
            total += Parity(alike=1, shift=shift, score=score, iou=iou)
            shifts[:, column] = torch.inf
    return total


def as_instances(found: Sequence[tuple[str, float, Any, Any]], classes: Classes) -> Instances:
    """What the example's `detect` gives, in the pipeline's type."""
    names, scores, boxes, masks = zip(*found, strict=True) if found else ((), (), (), ())
    return Instances(
        torch.tensor(np.array(boxes), dtype=torch.float32).reshape(-1, 4),
        torch.tensor([classes.label_of(name) for name in names], dtype=torch.int64),
        torch.tensor(scores, dtype=torch.float32),
        encode_masks(np.stack(masks)) if masks else [],
    )


def in_words(parity: Parity) -> str:
    """How far the two agree."""
    if not parity.expected and not parity.found:
        return "nothing is found, by the pipeline either"
    return (
        f"{parity.alike} of {parity.expected} detections are the pipeline's ({parity.found} found): "
        f"boxes within {parity.shift:.4f} pixels, scores within {parity.score:.6f}, mask IoU from {parity.iou:.4f} on"
    )


def _mask_iou(first: Instances, row: int, second: Instances, column: int) -> float:
    """1 for two empty masks, of objects thinner than a pixel."""
    assert first.masks is not None
    assert second.masks is not None
    masks = first.masks[row], second.masks[column]
    return 1.0 if masks[0] == masks[1] else float(overlaps([masks[0]], [masks[1]], [False])[0, 0])

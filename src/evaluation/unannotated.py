"""A detection of something that is in the picture but not in its annotation (task 17).

Which detections qualify, and why:

* IoU below 0.3 with every annotated object and crowd region, of any class: the RPN's own bound for "not this object".
* Less than half of it inside any of them: a box around a wheel or a face has a small IoU with the whole, yet shows
  nothing new.
* It holds less than half of any annotated object of its own class: such a box is that object, badly placed.

The most confident one is taken. Where the source knows what its annotation leaves out (emoji), a detection that
covers such an unlabeled object with an IoU above 0.5 comes first: there it is certain that the detector is right and
the annotation incomplete. Elsewhere the pick may also be a plain false positive; a person has to look.
Letters: d detections, g annotated objects, h unlabeled objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from src.evaluation.instances import GroundTruth, Instances
from src.ops.boxes import box_iou, intersection_over_area
from src.structures.classes import Classes

LARGEST_IOU: Final = 0.3
LARGEST_SHARE: Final = 0.5
UNLABELED_IOU: Final = 0.5


@dataclass(frozen=True)
class Unannotated:
    """The detection that was picked.

    Attributes:
        picture: place of its picture in the lists.
        name: of the picture.
        detection: its row in the picture's detections.
        label: its class, 1 and up.
        class_name: that class's name.
        probability: the classifier's, of that label.
        known: whether it covers an object that the source is known to leave out.
        iou_with_unlabeled: its largest IoU with an unlabeled object; None where the picture has none.
    """

    picture: int
    name: str
    detection: int
    label: int
    class_name: str
    probability: float
    known: bool
    iou_with_unlabeled: float | None

    def as_metrics(self) -> dict[str, Any]:
        """The entry `unannotated` of `metrics/evaluate.json`."""
        return {
            "image": self.name,
            "class": self.class_name,
            "probability": self.probability,
            "known": self.known,
            "iou_with_unlabeled": self.iou_with_unlabeled,
        }


def find_unannotated(
    ground_truth: Sequence[GroundTruth], detections: Sequence[Instances], classes: Classes
) -> Unannotated | None:
    """The best example among all pictures, or None: known unlabeled objects first, then by score, then the earlier one.

    Raises:
        ValueError: the lists differ in length.
    """
    best: Unannotated | None = None
    for picture, (truth, found) in enumerate(zip(ground_truth, detections, strict=True)):
        for row in torch.nonzero(is_elsewhere(truth, found)).flatten().tolist():
            candidate = _candidate(picture, truth, found, row, classes)
            if best is None or (candidate.known, candidate.probability) > (best.known, best.probability):
                best = candidate
    return best


def is_elsewhere(truth: GroundTruth, found: Instances) -> Bool[Tensor, " d"]:
    """Which detections show something that no annotation of the picture, crowd regions included, stands for."""
    if not len(truth.boxes):
        return torch.ones(len(found), dtype=torch.bool)
    apart = (box_iou(found.boxes, truth.boxes) < LARGEST_IOU).all(dim=1)
    outside = (intersection_over_area(found.boxes, truth.boxes) < LARGEST_SHARE).all(dim=1)
    share = intersection_over_area(truth.boxes, found.boxes).T  # [d, g]: how much of the object the detection holds
    holds = (share >= LARGEST_SHARE) & (found.labels[:, None] == truth.labels[None, :])
    return apart & outside & ~holds.any(dim=1)


def _candidate(picture: int, truth: GroundTruth, found: Instances, row: int, classes: Classes) -> Unannotated:
    iou = _unlabeled_iou(found.boxes[row], truth.unlabeled_boxes)
    label = int(found.labels[row])
    return Unannotated(
        picture=picture,
        name=truth.name,
        detection=row,
        label=label,
        class_name=classes.name_of(label),
        probability=float(found.scores[row]),
        known=iou is not None and iou > UNLABELED_IOU,
        iou_with_unlabeled=iou,
    )


def _unlabeled_iou(box: Float32[Tensor, " 4"], hidden: Float32[Tensor, "h 4"]) -> float | None:
    return float(box_iou(box[None], hidden).max()) if len(hidden) else None

"""What kind of mistakes the detector makes, after TIDE (task 15).

Bolya, Foley, Hays and Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020,
section 2.2. Foreground IoU 0.5, background IoU 0.1. Each detection above a score threshold is the first of:

* correct: takes an object of its class at IoU >= 0.5 (greedily by score, each object once);
* ignored: lies by half or more in a crowd region of its class; counts neither way;
* localization: its largest IoU with an object of its class is in [0.1, 0.5);
* classification: IoU >= 0.5 with an object of another class;
* duplicate: IoU >= 0.5 with an object of its class that a more confident detection has taken;
* background: IoU < 0.1 with every object;
* both: what is left: at best IoU in [0.1, 0.5) with an object of another class.

A missed object is one that no detection takes and that no localization or classification error points at: mending
those detections would find it. The order of the tests is that of the authors' toolbox. Unlike it, this counts
detections; it does not weigh them by the AP they cost. Letters: d detections, g objects.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from src.evaluation.coco_matching import UNMATCHED, greedy_match, pair_overlaps, same_class
from src.evaluation.instances import GroundTruth, Instances

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1


@dataclass(frozen=True)
class ErrorCounts:
    """Detections by kind, and missed objects; the module's docstring defines them."""

    correct: int = 0
    duplicate: int = 0
    classification: int = 0
    localization: int = 0
    both: int = 0
    background: int = 0
    missed: int = 0
    ignored: int = 0

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        sums = {
            field.name: getattr(self, field.name) + getattr(other, field.name) for field in dataclasses.fields(self)
        }
        return ErrorCounts(**sums)

    def as_metrics(self) -> dict[str, int]:
        """The entry `errors` of `metrics/evaluate.json`."""
        return dataclasses.asdict(self)


def count_errors(
    ground_truth: Sequence[GroundTruth], detections: Sequence[Instances], score_threshold: float
) -> ErrorCounts:
    """Counts the detections of all pictures whose score is at least `score_threshold`, by their boxes.

    Raises:
        ValueError: the lists differ in length.
    """
    pairs = zip(ground_truth, detections, strict=True)
    counts = (_picture_errors(truth, found.keep(found.scores >= score_threshold)) for truth, found in pairs)
    return sum(counts, ErrorCounts())


def _picture_errors(truth: GroundTruth, found: Instances) -> ErrorCounts:
    overlap, same, crowd = pair_overlaps(truth, found), same_class(truth, found), truth.crowd.numpy()
    matches = greedy_match(overlap * same, found.scores.numpy(), crowd, FOREGROUND_IOU)
    taken = np.isin(np.arange(len(crowd)), matches)
    objects = ~crowd  # crowd regions explain no mistake
    kinds: list[str] = []
    explained = taken | crowd
    for index, match in enumerate(matches):
        if match != UNMATCHED:
            kinds.append("ignored" if crowd[match] else "correct")
            continue
        kind, culprit = _mistake(overlap[index] * objects, same[index])
        kinds.append(kind)
        if kind in ("localization", "classification"):
            explained[culprit] = True
    return ErrorCounts(**Counter(kinds), missed=int((~explained).sum()))


def _mistake(overlap: Float64[np.ndarray, " g"], same: Bool[np.ndarray, " g"]) -> tuple[str, int]:
    """The kind of a detection that takes no object, and the object it is about (-1: none)."""
    if not len(overlap):
        return "background", -1
    own, others = overlap * same, overlap * ~same
    if BACKGROUND_IOU <= own.max() < FOREGROUND_IOU:
        return "localization", int(own.argmax())
    if others.max() >= FOREGROUND_IOU:
        return "classification", int(others.argmax())
    if own.max() >= FOREGROUND_IOU:  # free, it would have been taken: somebody more confident has it
        return "duplicate", int(own.argmax())
    return ("background", -1) if overlap.max() < BACKGROUND_IOU else ("both", int(others.argmax()))

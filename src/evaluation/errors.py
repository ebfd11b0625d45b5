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
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64

from src.evaluation.coco_matching import UNMATCHED, greedy_match, pair_overlaps, same_class
from src.evaluation.instances import GroundTruth, Instances

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1
EXPLAINING: Final = ("correct", "localization", "classification")  # the object that such a one is about is not missed


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


@dataclass(frozen=True)
class Judgment:
    """What a detection is.

    Attributes:
        kind: `correct`, or which mistake: a field of `ErrorCounts`.
        about: the object or crowd region that it takes, or is mistaken about; `UNMATCHED` where there is none.
        overlap: IoU with that; of a crowd region the share of the detection in it; 0 where there is none.
    """

    kind: str
    about: int
    overlap: float


def judge(truth: GroundTruth, found: Instances) -> list[Judgment]:
    """What each detection of a picture is. Less confident ones do not matter to it, so it holds at any threshold."""
    overlap, same, crowd = pair_overlaps(truth, found), same_class(truth, found), truth.crowd.numpy()
    matches = greedy_match(overlap * same, found.scores.numpy(), crowd, FOREGROUND_IOU)
    objects = ~crowd  # crowd regions explain no mistake
    judgments = []
    for index, match in enumerate(matches.tolist()):
        if match != UNMATCHED:
            kind, about = "ignored" if crowd[match] else "correct", match
        else:
            kind, about = _mistake(overlap[index] * objects, same[index])
        judgments.append(Judgment(kind, about, float(overlap[index, about]) if about != UNMATCHED else 0.0))
    return judgments


def _picture_errors(truth: GroundTruth, found: Instances) -> ErrorCounts:
    judgments, explained = judge(truth, found), truth.crowd.numpy().copy()
    explained[[one.about for one in judgments if one.kind in EXPLAINING]] = True
    return ErrorCounts(**Counter(one.kind for one in judgments), missed=int((~explained).sum()))


def _mistake(overlap: Float64[np.ndarray, " g"], same: Bool[np.ndarray, " g"]) -> tuple[str, int]:
    """The kind of a detection that takes no object, and the object it is about (`UNMATCHED`: none)."""
    if not len(overlap):
        return "background", UNMATCHED
    own, others = overlap * same, overlap * ~same
    if BACKGROUND_IOU <= own.max() < FOREGROUND_IOU:
        return "localization", int(own.argmax())
    if others.max() >= FOREGROUND_IOU:
        return "classification", int(others.argmax())
    if own.max() >= FOREGROUND_IOU:  # free, it would have been taken: somebody more confident has it
        return "duplicate", int(own.argmax())
    return ("background", UNMATCHED) if overlap.max() < BACKGROUND_IOU else ("both", int(others.argmax()))

"""Two detectors on the same test images: how good, with which mistakes, what one finds and the other misses (task 13).

Scores of a softmax and of sigmoids under a focal loss do not mean the same, so no fixed threshold is fair to both.
Where single detections are counted, each detector is taken at its own best threshold: the one of the highest F1 at
IoU 0.5 on these images. Letters: d detections, g objects.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from src.evaluation.bootstrap import SEED, Interval
from src.evaluation.coco_matching import UNMATCHED, match_objects
from src.evaluation.detection import DetectionMetrics
from src.evaluation.errors import ErrorCounts, count_errors
from src.evaluation.instances import GroundTruth, Instances
from src.evaluation.paired import count_objects, groups, paired_intervals
from src.structures.classes import Classes


@dataclass(frozen=True)
class Operating:
    """A detector at its best threshold; without objects or detections there is none, and nothing counts.

    Attributes:
        threshold: the lowest score that counts.
        precision: share of the detections that are right.
        recall: share of the objects that are found.
    """

    threshold: float | None = None
    precision: float | None = None
    recall: float | None = None

    def surest(self, found: Instances) -> Instances:
        """The detections that count."""
        return found.keep(found.scores >= (np.inf if self.threshold is None else self.threshold))


@dataclass(frozen=True)
class OneDetector:
    """What one of the detectors reaches.

    Attributes:
        score: AP of boxes.
        operating: its best threshold.
        errors: by kind, from that threshold on.
        detections: on average in an image, whatever their score.
    """

    score: DetectionMetrics
    operating: Operating
    errors: ErrorCounts
    detections: float

    def as_metrics(self) -> dict[str, Any]:
        """Its part of `metrics/detectors.json`."""
        by_class = {name: dataclasses.asdict(one.box) for name, one in self.score.by_class.items()}
        by_size = {name: dataclasses.asdict(one) for name, one in self.score.box_by_size.items()}
        return {
            **dataclasses.asdict(self.score.box),
            "by_class": by_class,
            "by_size": by_size,
            **dataclasses.asdict(self.operating),
            "errors": self.errors.as_metrics(),
            "detections_per_image": self.detections,
        }


@dataclass(frozen=True)
class Comparison:
    """Two detectors side by side.

    Attributes:
        detectors: by name, the first one first.
        differences: AP, AP50 and AP75 of the first less the second with paired intervals, by class and size.
        found: which objects of each image the first finds, and which the second: [2, g] each.
        names: of the images.
        counts: objects of each class and size, by its name, and of all.
    """

    detectors: dict[str, OneDetector]
    differences: Mapping[str, dict[str, Interval] | None]
    found: Sequence[Bool[np.ndarray, "2 _"]]
    names: Sequence[str]
    counts: Mapping[str, int]

    def only(self, place: int) -> list[int]:
        """Numbers of the images in which one detector, by its place, finds what the other misses; most such first."""
        counts = np.array([(one[place] & ~one[1 - place]).sum() for one in self.found], np.int64)
        return [int(image) for image in np.argsort(-counts, kind="stable") if counts[image]]

    def as_metrics(self) -> dict[str, Any]:
        """The content of `metrics/detectors.json`."""
        first, second = self.detectors
        marks = np.concatenate([np.zeros((2, 0), bool), *self.found], axis=1)
        objects = {
            "both": marks.all(axis=0),
            f"{first}_only": marks[0] & ~marks[1],
            f"{second}_only": marks[1] & ~marks[0],
            "neither": ~marks.any(axis=0),
        }
        return {
            "detectors": {name: one.as_metrics() for name, one in self.detectors.items()},
            "differences": {
                name: None if one is None else {measure: dataclasses.asdict(each) for measure, each in one.items()}
                for name, one in self.differences.items()
            },
            "counts": dict(self.counts),
            "objects": {name: int(chosen.sum()) for name, chosen in objects.items()},
            "images": {name: [self.names[i] for i in self.only(place)] for place, name in enumerate(self.detectors)},
        }


def compare(
    truth: Sequence[GroundTruth],
    found: Mapping[str, Sequence[Instances]],
    scores: Mapping[str, DetectionMetrics],
    classes: Classes,
) -> Comparison:
    """Measures two detectors on the same images.

    Args:
        truth: the images.
        found: by the detectors' names, of the same images in the same order.
        scores: AP of each.
        classes: of the data set.
    """
    first, second = found.values()
    detectors, marks = {}, []
    for name, ours in found.items():
        operating = best_operating(truth, ours)
        threshold = np.inf if operating.threshold is None else operating.threshold
        errors = count_errors(truth, ours, threshold)
        detectors[name] = OneDetector(scores[name], operating, errors, sum(map(len, ours)) / max(len(truth), 1))
        marks.append([objects_found(*pair) for pair in zip(truth, map(operating.surest, ours), strict=True)])
    generator = torch.Generator().manual_seed(SEED)
    return Comparison(
        detectors,
        paired_intervals(truth, first, second, classes, generator),
        [np.stack(pair)[:, ~image.crowd.numpy()] for *pair, image in zip(*marks, truth, strict=True)],
        [image.name for image in truth],
        {group.name: count_objects(truth, group) for group in groups(classes)},
    )


def best_operating(truth: Sequence[GroundTruth], found: Sequence[Instances]) -> Operating:
    """The score threshold of the highest F1 at IoU 0.5, the highest such one.

    A detection is right where it takes an object of its class; those in crowd regions do not count.
    """
    objects = sum(int((~image.crowd).sum()) for image in truth)
    rights, scores = [np.zeros(0, bool)], [np.zeros(0)]
    for image, ours in zip(truth, found, strict=True):
        matches, crowd = match_objects(image, ours), image.crowd.numpy()
        taken = matches != UNMATCHED
        counted = ~(taken & crowd[matches]) if len(crowd) else ~taken
        rights.append(taken[counted])
        scores.append(ours.scores.numpy()[counted])
    right, score = np.concatenate(rights), np.concatenate(scores)
    if not objects or not len(right):
        return Operating()
    order = np.argsort(-score, kind="stable")
    true, score = np.cumsum(right[order]), score[order]
    last = np.append(score[1:] != score[:-1], True)  # of equal scores all count or none
    f1 = np.where(last, 2 * true / (np.arange(1, len(true) + 1) + objects), -1.0)
    best = int(f1.argmax())
    return Operating(float(score[best]), float(true[best] / (best + 1)), float(true[best] / objects))


def objects_found(truth: GroundTruth, found: Instances) -> Bool[np.ndarray, " g"]:
    """Which objects of an image a detection of their class takes at IoU 0.5."""
    return np.isin(np.arange(len(truth.boxes)), match_objects(truth, found))

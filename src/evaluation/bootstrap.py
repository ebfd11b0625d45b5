"""How far AP50 would move on another draw of test images: a bootstrap confidence interval.

Images are drawn with replacement, as many as there are, and AP50 is computed anew (Efron, "Bootstrap methods", Annals
of Statistics 1979; the percentile interval). Detections are matched once: a match depends on its own image only, so a
resample is a weight for each image. Letters: i images, d detections of one class, s resamples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64

from src.evaluation.coco_matching import UNMATCHED, OverlapType, greedy_match, pair_overlaps, same_class
from src.evaluation.detection import RECALLS, AreaRange
from src.evaluation.instances import GroundTruth, Instances
from src.evaluation.rle import mask_areas
from src.ops.boxes import box_area

LEVEL: Final = 0.95
SEED: Final = 0  # of the draws behind the intervals that are reported
MOST_DETECTIONS: Final = 100  # a class and image, COCO's rule


@dataclass(frozen=True)
class Interval:
    """AP50 of the split as it is, and the interval that holds 95 % of the resamples' AP50."""

    estimate: float
    low: float
    high: float
    resamples: int


@dataclass(frozen=True)
class ClassMatches:
    """One class over all images, its counted detections sorted by falling score.

    Attributes:
        right: whether a detection takes an object.
        image: place of its image in the lists.
        objects: objects in each image, crowd regions left out.
    """

    right: Bool[np.ndarray, " d"]
    image: Int64[np.ndarray, " d"]
    objects: Int64[np.ndarray, " i"]


def bootstrap_ap50(
    ground_truth: Sequence[GroundTruth],
    detections: Sequence[Instances],
    generator: torch.Generator,
    resamples: int = 1000,
    kind: OverlapType = "box",
) -> Interval | None:
    """AP50 with its 95 % interval; None where there are no objects.

    Args:
        ground_truth: the pictures.
        detections: of the same pictures in the same order.
        generator: draws the images; the same state gives the same interval.
        resamples: how many draws; a draw without any object is left out.
        kind: whether boxes or masks are matched.

    Raises:
        ValueError: the lists differ in length, or masks are asked for and missing.
    """
    labels = sorted({label for truth in ground_truth for label in truth.labels.tolist()})
    classes = [match_class(ground_truth, detections, label, kind) for label in labels]
    images = len(ground_truth)
    estimate = weighted_ap50(classes, np.ones(images, np.int64))
    if estimate is None:
        return None
    draws = (torch.randint(images, (images,), generator=generator).numpy() for _ in range(resamples))
    values = [weighted_ap50(classes, np.bincount(draw, minlength=images)) for draw in draws]
    known = [value for value in values if value is not None] or [estimate]
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(estimate, float(low), float(high), resamples)


def ap50_intervals(
    ground_truth: Sequence[GroundTruth], detections: Sequence[Instances]
) -> dict[OverlapType, dict[str, float | int] | None]:
    """AP50 of boxes and of masks with their intervals, as facts for a json file, over the same draws of images."""
    intervals = {
        kind: bootstrap_ap50(ground_truth, detections, torch.Generator().manual_seed(SEED), kind=kind)
        for kind in get_args(OverlapType)
    }
    return {kind: dataclasses.asdict(one) if one else None for kind, one in intervals.items()}


def match_class(
    ground_truth: Sequence[GroundTruth],
    detections: Sequence[Instances],
    label: int,
    kind: OverlapType,
    threshold: float = 0.5,
) -> ClassMatches:
    """Matches the detections of one class in every image from an IoU on; those in crowd regions are left out."""
    return match_class_at((threshold,), ground_truth, detections, label, kind)[0]


def match_class_at(
    thresholds: Sequence[float],
    ground_truth: Sequence[GroundTruth],
    detections: Sequence[Instances],
    label: int,
    kind: OverlapType,
    areas: AreaRange | None = None,
) -> list[ClassMatches]:
    """The same at several thresholds.

    Args:
        thresholds: overlaps from which on a detection may take an object.
        ground_truth: the pictures.
        detections: of the same pictures in the same order.
        label: the class.
        kind: whether boxes or masks are matched.
        areas: count objects of this size alone, and box detections that take none by their own, as COCO does.
    """
    scenes = [
        _Scene.of(truth, found.keep(_most_confident(found, label)), label, kind, areas)
        for truth, found in zip(ground_truth, detections, strict=True)
    ]
    return [_matches(scenes, threshold) for threshold in thresholds]


@dataclass(frozen=True)
class _Scene:
    """One class in one picture: d detections, g objects of any class.

    Attributes:
        overlap: 0 where the classes differ.
        scores: of the detections.
        crowd: which objects are crowd regions.
        aside: which do not count for another reason.
        counts: which detections count where they take nothing.
        objects: how many there are to find.
    """

    overlap: Float64[np.ndarray, "_ _"]
    scores: Float[np.ndarray, " _"]
    crowd: Bool[np.ndarray, " _"]
    aside: Bool[np.ndarray, " _"]
    counts: Bool[np.ndarray, " _"]
    objects: int

    @classmethod
    def of(cls, truth: GroundTruth, ours: Instances, label: int, kind: OverlapType, areas: AreaRange | None) -> _Scene:
        """The class's detections among the picture's objects."""
        overlap, crowd = pair_overlaps(truth, ours, kind) * same_class(truth, ours), truth.crowd.numpy()
        aside, counts = np.zeros_like(crowd), np.ones(len(ours), bool)
        if areas is not None:
            aside = ~_holds(areas, np.array(mask_areas(truth.masks)))
            counts = _holds(areas, box_area(ours.boxes.double()).numpy())
        objects = int((~crowd & ~aside & (truth.labels.numpy() == label)).sum())
        return cls(overlap, ours.scores.numpy(), crowd, aside, counts, objects)

    def match(self, threshold: float) -> tuple[Bool[np.ndarray, " _"], Bool[np.ndarray, " _"]]:
        """Which detections take an object, and which count."""
        matches = greedy_match(self.overlap, self.scores, self.crowd, threshold, self.aside)
        taken = matches != UNMATCHED
        counted = np.where(taken, ~(self.crowd | self.aside)[matches], self.counts) if len(self.crowd) else self.counts
        return taken, counted


def _matches(scenes: Sequence[_Scene], threshold: float) -> ClassMatches:
    """All pictures' detections by falling score."""
    right, scores, image = [], [], []
    for place, scene in enumerate(scenes):
        taken, counted = scene.match(threshold)
        right.append(taken[counted])
        scores.append(scene.scores[counted])
        image.append(np.full(int(counted.sum()), place))
    if not scenes:
        return ClassMatches(np.zeros(0, bool), np.zeros(0, np.int64), np.zeros(0, np.int64))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    objects = np.array([scene.objects for scene in scenes])
    return ClassMatches(np.concatenate(right)[order], np.concatenate(image)[order], objects)


def _holds(areas: AreaRange, values: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Which areas, square pixels, lie in a range, its ends included."""
    return (values >= areas[0]) & (values <= areas[1])


def _most_confident(found: Instances, label: int) -> torch.Tensor:
    rows = torch.nonzero(found.labels == label).flatten()
    return rows[torch.argsort(found.scores[rows], descending=True, stable=True)][:MOST_DETECTIONS]


def weighted_ap50(classes: Sequence[ClassMatches], weights: Int64[np.ndarray, " i"]) -> float | None:
    """AP50 of the pictures, each taken `weights` times: the mean over the classes that have objects, else None."""
    values = [_class_ap(one, weights) for one in classes]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _class_ap(one: ClassMatches, weights: Int64[np.ndarray, " i"]) -> float | None:
    """COCO's AP: precision at 101 recalls, each the best precision at that recall or a higher one."""
    objects = int((one.objects * weights).sum())
    if not objects:
        return None
    times = weights[one.image]
    true, all_found = np.cumsum(times * one.right), np.cumsum(times)
    precision = true / np.maximum(all_found, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(true / objects, _recalls())
    return float(np.append(envelope, 0.0)[np.minimum(places, len(envelope))].mean())


def _recalls() -> Float[np.ndarray, " 101"]:
    return np.linspace(0.0, 1.0, len(RECALLS))  # as COCO draws them: rounded ones part ways with its ties

"""Detections of one class assigned to its objects in every image, once, so that each resample is a weight for images.

Letters: i images, d detections of one class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64

from src.evaluation.coco_matching import UNMATCHED, OverlapType, greedy_match, same_class_overlaps
from src.evaluation.detection import AreaRange, holds
from src.evaluation.instances import GroundTruth, Instances
from src.evaluation.rle import mask_areas
from src.ops.boxes import box_area

MOST_DETECTIONS: Final = 100  # a class and image, COCO's rule


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
        overlap, crowd = same_class_overlaps(truth, ours, kind), truth.crowd.numpy()
        aside, counts = np.zeros_like(crowd), np.ones(len(ours), bool)
        if areas is not None:
            aside = ~holds(areas, np.array(mask_areas(truth.masks)))
            counts = holds(areas, box_area(ours.boxes.double()).numpy())
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


def _most_confident(found: Instances, label: int) -> torch.Tensor:
    rows = torch.nonzero(found.labels == label).flatten()
    return rows[torch.argsort(found.scores[rows], descending=True, stable=True)][:MOST_DETECTIONS]

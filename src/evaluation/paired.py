"""How much of the difference between two detectors another draw of test images would leave: paired intervals.

Both detectors are measured on the same draws of images (see `bootstrap`), so what makes an image easy or hard for both
cancels; an interval that leaves out 0 says that the difference is more than the luck of the draw. Letters: i images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Int64

from src.evaluation.bootstrap import LEVEL, ClassMatches, Interval, match_class, weighted_ap50
from src.evaluation.detection import IOU_50, IOU_75, SIZES, AreaRange
from src.evaluation.instances import GroundTruth, Instances
from src.structures.classes import OBJECT_CLASSES

THRESHOLDS: Final = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
ALL: Final = "all"
MEASURES: Final = ("ap", "ap50", "ap75")

Matches = list[list[ClassMatches]]  # of each threshold, of each class


@dataclass(frozen=True)
class Group:
    """Objects that are measured together: all, one class, or one size.

    Attributes:
        name: of the class or size, or `ALL`.
        labels: of their classes.
        areas: of their sizes, square pixels; None for every size.
    """

    name: str
    labels: tuple[int, ...]
    areas: AreaRange | None = None


def groups() -> list[Group]:
    """All objects, those of each class, those of each size."""
    labels = tuple(range(1, 1 + len(OBJECT_CLASSES)))
    classes = [Group(name, (label,)) for label, name in enumerate(OBJECT_CLASSES, start=1)]
    return [Group(ALL, labels), *classes, *(Group(name, labels, areas) for name, areas in SIZES.items())]


def paired_intervals(
    ground_truth: Sequence[GroundTruth],
    first: Sequence[Instances],
    second: Sequence[Instances],
    generator: torch.Generator,
    resamples: int = 1000,
) -> dict[str, dict[str, Interval] | None]:
    """`first` less `second`, in AP, AP50 and AP75 of boxes, of each group; None where a group has no objects.

    Args:
        ground_truth: the pictures.
        first: a detector's, of the same pictures in the same order.
        second: another's.
        generator: draws the images; the same state gives the same intervals.
        resamples: how many draws; for a group, those without any of its objects are left out.
    """
    images = len(ground_truth)
    drawn = [torch.randint(images, (images,), generator=generator).numpy() for _ in range(resamples)]
    weights = [np.bincount(draw, minlength=images) for draw in drawn]
    result = {}
    for group in groups():
        both = tuple(_matches(ground_truth, found, group) for found in (first, second))
        result[group.name] = _differences(both, weights)
    return result


def _matches(ground_truth: Sequence[GroundTruth], found: Sequence[Instances], group: Group) -> Matches:
    return [
        [match_class(ground_truth, found, label, "box", threshold, group.areas) for label in group.labels]
        for threshold in THRESHOLDS
    ]


def _differences(both: tuple[Matches, ...], weights: Sequence[Int64[np.ndarray, " i"]]) -> dict[str, Interval] | None:
    """The group's intervals, by measure."""
    estimate = _difference(both, np.ones_like(both[0][0][0].objects))
    if estimate is None:
        return None
    values = [value for one in weights if (value := _difference(both, one)) is not None] or [estimate]
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return {
        name: Interval(float(estimate[place]), float(low[place]), float(high[place]), len(weights))
        for place, name in enumerate(MEASURES)
    }


def _difference(both: tuple[Matches, ...], weights: Int64[np.ndarray, " i"]) -> np.ndarray | None:
    """First less second, of each of `MEASURES`; None where the pictures have no objects."""
    values = [[weighted_ap50(classes, weights) for classes in matches] for matches in both]
    if None in values[0]:
        return None
    first, second = (np.array(one, np.float64) for one in values)
    gap = first - second
    return np.array([gap.mean(), gap[IOU_50], gap[IOU_75]])

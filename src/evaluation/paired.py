"""How much of the difference between two detectors another draw of test images would leave: paired intervals.

Both detectors are measured on the same draws of images (see `bootstrap`), so what makes an image easy or hard for both
cancels; an interval that leaves out 0 says that the difference is more than the luck of the draw. Letters: i images,
s draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float64, Int64

from src.evaluation.bootstrap import Interval, drawn_weights, mean_ap, percentiles
from src.evaluation.class_matches import match_class_at
from src.evaluation.coco_matching import OverlapType
from src.evaluation.detection import IOU_50, IOU_75, SIZES, AreaRange, holds
from src.evaluation.instances import GroundTruth, Instances
from src.evaluation.rle import mask_areas
from src.structures.classes import Classes

THRESHOLDS: Final = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
ALL: Final = "all"
MEASURES: Final = ("ap", "ap50", "ap75")


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


def groups(classes: Classes) -> list[Group]:
    """All objects, those of each class, those of each size."""
    labels, each = tuple(classes.labels), [Group(name, (label,)) for name, label in classes.items()]
    return [Group(ALL, labels), *each, *(Group(name, labels, areas) for name, areas in SIZES.items())]


def count_objects(ground_truth: Sequence[GroundTruth], group: Group) -> int:
    """Objects of a group, crowd regions left out."""
    total = 0
    for truth in ground_truth:
        counted = np.isin(truth.labels.numpy(), group.labels) & ~truth.crowd.numpy()
        if group.areas is not None:
            counted &= holds(group.areas, np.array(mask_areas(truth.masks)))
        total += int(counted.sum())
    return total


def paired_intervals(
    ground_truth: Sequence[GroundTruth],
    first: Sequence[Instances],
    second: Sequence[Instances],
    classes: Classes,
    generator: torch.Generator,
    resamples: int = 1000,
) -> dict[str, dict[str, Interval] | None]:
    """`first` less `second`, in AP, AP50 and AP75 of boxes, of each group; None where a group has no objects.

    Args:
        ground_truth: the pictures.
        first: a detector's, of the same pictures in the same order.
        second: another's.
        classes: of the data set.
        generator: draws the images; the same state gives the same intervals.
        resamples: how many draws; for a group, those without any of its objects are left out.
    """
    weights = drawn_weights(len(ground_truth), generator, resamples)
    result = {}
    for group in groups(classes):
        ours, theirs = (group_measures(ground_truth, found, group, weights) for found in (first, second))
        result[group.name] = _intervals(ours - theirs, resamples)
    return result


def group_measures(
    ground_truth: Sequence[GroundTruth],
    found: Sequence[Instances],
    group: Group,
    weights: Int64[np.ndarray, "s i"],
    kind: OverlapType = "box",
) -> Float64[np.ndarray, "s 3"]:
    """AP, AP50 and AP75 of a group in each draw: means over its classes that have objects there, NaN without any.

    Args:
        ground_truth: the pictures.
        found: of the same pictures in the same order.
        group: what is measured.
        weights: how often each draw has each picture.
        kind: whether boxes or masks are matched.
    """
    matches = [match_class_at(THRESHOLDS, ground_truth, found, label, kind, group.areas) for label in group.labels]
    columns = [mean_ap([of_class[place] for of_class in matches], weights) for place in range(len(THRESHOLDS))]
    table = np.stack(columns, axis=1)  # [s, thresholds]
    return np.stack([table.mean(axis=1), table[:, IOU_50], table[:, IOU_75]], axis=1)


def _intervals(differences: Float64[np.ndarray, "s 3"], resamples: int) -> dict[str, Interval] | None:
    """The group's intervals, by measure, of the estimate and the draws after it."""
    if np.isnan(differences[0, 0]):
        return None
    columns = zip(MEASURES, differences.T, strict=True)
    return {name: Interval(float(values[0]), *percentiles(values), resamples) for name, values in columns}

"""How much of the difference between two detectors another draw of test images would leave: paired intervals.

Both detectors are measured on the same draws of images (see `bootstrap`), so what makes an image easy or hard for both
cancels; an interval that leaves out 0 says that the difference is more than the luck of the draw. Letters: i images,
d detections of one class, s draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float64, Int64

from src.evaluation.bootstrap import LEVEL, ClassMatches, Interval, match_class_at
from src.evaluation.coco_matching import OverlapType
from src.evaluation.detection import IOU_50, IOU_75, RECALLS, SIZES, AreaRange
from src.evaluation.instances import GroundTruth, Instances
from src.evaluation.rle import mask_areas
from src.structures.classes import Classes

THRESHOLDS: Final = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
ALL: Final = "all"
MEASURES: Final = ("ap", "ap50", "ap75")
CELLS: Final = 2_000_000  # numbers of a table at a time


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
    low, high = group.areas or (0.0, np.inf)
    total = 0
    for truth in ground_truth:
        areas = np.array(mask_areas(truth.masks), np.float64)
        inside = (areas >= low) & (areas <= high) & np.isin(truth.labels.numpy(), group.labels)
        total += int((inside & ~truth.crowd.numpy()).sum())
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


def drawn_weights(images: int, generator: torch.Generator, resamples: int) -> Int64[np.ndarray, "s i"]:
    """How often each draw has each image; the images as they are come first, for the estimate."""
    drawn = (torch.randint(images, (images,), generator=generator).numpy() for _ in range(resamples))
    return np.stack([np.ones(images, np.int64), *(np.bincount(draw, minlength=images) for draw in drawn)])


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
    if not group.labels:
        return np.full((len(weights), len(MEASURES)), np.nan)
    matches = [match_class_at(THRESHOLDS, ground_truth, found, label, kind, group.areas) for label in group.labels]
    columns = []
    for classes in zip(*matches, strict=True):  # of one threshold
        values = np.stack([resampled_ap(one, weights) for one in classes])  # [classes, s]
        known = ~np.isnan(values)
        count = known.sum(axis=0)
        columns.append(np.where(count, np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan))
    table = np.stack(columns, axis=1)  # [s, thresholds]
    return np.stack([table.mean(axis=1), table[:, IOU_50], table[:, IOU_75]], axis=1)


def resampled_ap(one: ClassMatches, weights: Int64[np.ndarray, "s i"]) -> Float64[np.ndarray, " s"]:
    """COCO's AP of one class at one threshold in each draw, NaN where it has no objects: as `weighted_ap50` counts."""
    rows = max(1, CELLS // max(len(one.right), len(RECALLS)))
    parts = [_ap_of(one, weights[first : first + rows]) for first in range(0, len(weights), rows)]
    return np.concatenate(parts)


def _ap_of(one: ClassMatches, weights: Int64[np.ndarray, "s i"]) -> Float64[np.ndarray, " s"]:
    objects = weights @ one.objects  # [s]
    times = weights[:, one.image]  # [s, d]
    true, everything = np.cumsum(times * one.right, axis=1), np.cumsum(times, axis=1)
    precision = true / np.maximum(everything, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.pad(envelope, ((0, 0), (0, 1)))  # what is never reached has precision 0
    # How many must be found for each recall, then after how many detections they are: whole numbers, so that one
    # search serves all rows and no tie is lost to rounding.
    levels = np.linspace(0.0, 1.0, len(RECALLS))
    needed = {count: np.searchsorted(np.arange(count + 1) / max(count, 1), levels) for count in np.unique(objects)}
    wanted = np.stack([needed[count] for count in objects])  # [s, 101]
    row = np.arange(len(weights))[:, None]
    step = int(objects.max(initial=0)) + 2
    places = np.searchsorted((true + step * row).ravel(), (wanted + step * row).ravel()).reshape(wanted.shape)
    values = np.take_along_axis(padded, places - true.shape[1] * row, axis=1).mean(axis=1)
    return np.where(objects > 0, values, np.nan)


def _intervals(differences: Float64[np.ndarray, "s 3"], resamples: int) -> dict[str, Interval] | None:
    """The group's intervals, by measure, of the estimate and the draws after it."""
    estimate, known = differences[0], differences[~np.isnan(differences[:, 0])]
    if np.isnan(estimate[0]):
        return None
    draws = known[1:] if len(known) > 1 else known
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return {
        name: Interval(float(estimate[place]), float(low[place]), float(high[place]), resamples)
        for place, name in enumerate(MEASURES)
    }

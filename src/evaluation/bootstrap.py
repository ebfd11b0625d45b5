"""How far AP50 would move on another draw of test images: a bootstrap confidence interval.

Images are drawn with replacement, as many as there are, and AP50 is computed anew (Efron, "Bootstrap methods", Annals
of Statistics 1979; the percentile interval). Detections are matched once (`src.evaluation.class_matches`): a match
depends on its own image only, so a resample is a weight for each image, and all are computed at once.
Letters: i images, s resamples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
import torch
from jaxtyping import Float64, Int64

from src.evaluation.class_matches import ClassMatches, match_class
from src.evaluation.coco_matching import OverlapType
from src.evaluation.detection import RECALLS
from src.evaluation.instances import GroundTruth, Instances

LEVEL: Final = 0.95
SEED: Final = 0  # of the draws behind the intervals that are reported
CELLS: Final = 2_000_000  # numbers of a table at a time


@dataclass(frozen=True)
class Interval:
    """A number of the images as they are, and the interval that holds 95 % of the resamples' numbers."""

    estimate: float
    low: float
    high: float
    resamples: int


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
    values = mean_ap(classes, drawn_weights(len(ground_truth), generator, resamples))
    if np.isnan(values[0]):
        return None
    return Interval(float(values[0]), *percentiles(values), resamples)


def ap50_intervals(
    ground_truth: Sequence[GroundTruth], detections: Sequence[Instances]
) -> dict[OverlapType, dict[str, float | int] | None]:
    """AP50 of boxes and of masks with their intervals, as facts for a json file, over the same draws of images."""
    intervals = {
        kind: bootstrap_ap50(ground_truth, detections, torch.Generator().manual_seed(SEED), kind=kind)
        for kind in get_args(OverlapType)
    }
    return {kind: dataclasses.asdict(one) if one else None for kind, one in intervals.items()}


def drawn_weights(images: int, generator: torch.Generator, resamples: int) -> Int64[np.ndarray, "s i"]:
    """How often each draw has each image; the images as they are come first. Without images nothing is drawn."""
    draws = range(resamples if images else 0)
    drawn = (torch.randint(images, (images,), generator=generator).numpy() for _ in draws)
    return np.stack([np.ones(images, np.int64), *(np.bincount(draw, minlength=images) for draw in drawn)])


def percentiles(values: Float64[np.ndarray, " s"]) -> tuple[float, float]:
    """The ends of the interval that holds 95 % of the draws; of the estimate, which comes first, where there are none.

    Args:
        values: by draw; NaN where a draw has nothing to measure, which is left out.
    """
    known = values[1:][~np.isnan(values[1:])]
    low, high = np.quantile(known if len(known) else values[:1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean_ap(classes: Sequence[ClassMatches], weights: Int64[np.ndarray, "s i"]) -> Float64[np.ndarray, " s"]:
    """AP in each draw: the mean over the classes that have objects there, NaN without any.

    Args:
        classes: each one's matches, from one IoU on.
        weights: how often each draw has each image.
    """
    if not classes:
        return np.full(len(weights), np.nan)
    values = np.stack([resampled_ap(one, weights) for one in classes])  # [classes, s]
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    return np.where(count, np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


def resampled_ap(one: ClassMatches, weights: Int64[np.ndarray, "s i"]) -> Float64[np.ndarray, " s"]:
    """COCO's AP of one class at one threshold in each draw, NaN where it has no objects."""
    rows = max(1, CELLS // max(len(one.right), len(RECALLS)))
    parts = [_ap_of(one, weights[first : first + rows]) for first in range(0, len(weights), rows)]
    return np.concatenate(parts)


def _ap_of(one: ClassMatches, weights: Int64[np.ndarray, "s i"]) -> Float64[np.ndarray, " s"]:
    """Precision at 101 recalls, each the best precision at that recall or a higher one."""
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

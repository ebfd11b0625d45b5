"""Two runs on the same test images: differences with paired bootstrap intervals, objects fixed and broken.

Both runs are measured on the same draws of images, so that what is hard in an image cancels: the interval of the
difference is far narrower than the two runs' own (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993).
Letters: i images, s draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float64, Int64

from src.evaluation.analysis import SecondStageAnalysis
from src.evaluation.bootstrap import SEED, drawn_weights, percentiles
from src.evaluation.coco_matching import OverlapType
from src.evaluation.funnel import FOUND, Funnel, count_fates, fates
from src.evaluation.instances import GroundTruth, Instances
from src.evaluation.paired import ALL, Group, group_measures


@dataclass(frozen=True)
class Run:
    """What a run found on its test images.

    Attributes:
        truth: the images.
        found: in each, under the run's border rule.
        fates: of each image's objects, crowd regions left out: found, or the step that lost them.
    """

    truth: list[GroundTruth]
    found: list[Instances]
    fates: list[list[str]]

    @classmethod
    def from_analyses(
        cls, truth: Sequence[GroundTruth], analyses: Sequence[SecondStageAnalysis], border: str, score_threshold: float
    ) -> Run:
        """From what stage `detect` wrote.

        Raises:
            ValueError: the lists differ in length.
        """
        pairs = list(zip(truth, analyses, strict=True))
        became = [fates(one, image.found[border], image.lost_at, score_threshold) for one, image in pairs]
        return cls(list(truth), [image.found[border] for image in analyses], became)

    def only(self, places: Sequence[int]) -> Run:
        """The run on some of its images."""
        truth, found = [self.truth[place] for place in places], [self.found[place] for place in places]
        return Run(truth, found, [self.fates[place] for place in places])

    @property
    def funnel(self) -> Funnel:
        """What became of all objects."""
        return count_fates(self.fates)


@dataclass(frozen=True)
class Difference:
    """A number of both runs, and 95 % of the draws' differences, the second run's less the first's."""

    name: str
    first: float | None
    second: float | None
    low: float | None
    high: float | None

    @property
    def difference(self) -> float | None:
        """The second run's number less the first's."""
        return None if self.first is None or self.second is None else self.second - self.first

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Changed:
    """An object that one run finds and the other misses: its image's place, its own among those that are no crowd."""

    image: int
    object: int
    before: str
    after: str


def shared_images(first: Sequence[GroundTruth], second: Sequence[GroundTruth]) -> list[tuple[int, int]]:
    """Places in both lists of the images with the same name, size and objects."""
    known = {identity(truth): place for place, truth in enumerate(first)}
    pairs = ((known.get(identity(truth)), place) for place, truth in enumerate(second))
    return [(one, other) for one, other in pairs if one is not None]


def identity(truth: GroundTruth) -> tuple[object, ...]:
    """What makes two images the same test image: name, size, objects."""
    masks = tuple(str(code["counts"]) for code in truth.masks)
    rest = tuple(truth.labels.tolist()), tuple(truth.crowd.tolist()), tuple(truth.boxes.flatten().tolist())
    return truth.name, truth.height, truth.width, masks, *rest


def compare(first: Run, second: Run, resamples: int = 1000) -> list[Difference]:
    """AP, AP50 and the share of objects found, of two runs on the same images.

    Raises:
        ValueError: the runs have different numbers of images.
    """
    if len(first.truth) != len(second.truth):
        raise ValueError(f"images: expected the same in both runs, found {len(first.truth)} and {len(second.truth)}")
    weights = drawn_weights(len(first.truth), torch.Generator().manual_seed(SEED), resamples)
    ours, theirs = (measured(run, weights) for run in (first, second))
    return [_difference(name, ours[name], theirs[name]) for name in ours]


def measured(run: Run, weights: Int64[np.ndarray, "s i"]) -> dict[str, Float64[np.ndarray, " s"]]:
    """The numbers that are compared, by name, in each draw; NaN where a draw has no objects.

    Args:
        run: what is measured.
        weights: how often each draw has each image.
    """
    labels = {label for truth in run.truth for label in truth.labels[~truth.crowd].tolist()}
    every = Group(ALL, tuple(sorted(labels)))
    numbers: dict[str, Float64[np.ndarray, " s"]] = {}
    for kind in get_args(OverlapType):
        ap, ap50, _ = group_measures(run.truth, run.found, every, weights, kind).T
        numbers |= {f"{kind} AP50": ap50, f"{kind} AP": ap}
    hits = np.array([sum(fate == FOUND for fate in picture) for picture in run.fates], np.int64)
    objects = weights @ np.array([len(picture) for picture in run.fates], np.int64)
    shares = (weights @ hits) / np.maximum(objects, 1)
    return numbers | {"objects found": np.where(objects > 0, shares, np.nan)}


def _difference(name: str, first: Float64[np.ndarray, " s"], second: Float64[np.ndarray, " s"]) -> Difference:
    """Of the images as they are, which come first, and of the draws after them."""
    one, other = (None if np.isnan(values[0]) else float(values[0]) for values in (first, second))
    drawn = second - first
    if np.isnan(drawn[1:]).all():
        return Difference(name, one, other, None, None)
    return Difference(name, one, other, *percentiles(drawn))


def changed_objects(first: Run, second: Run) -> tuple[list[Changed], list[Changed]]:
    """Objects that the second run alone finds, and those that the first alone does."""
    changes = [
        Changed(image, place, before, after)
        for image, (befores, afters) in enumerate(zip(first.fates, second.fates, strict=True))
        for place, (before, after) in enumerate(zip(befores, afters, strict=True))
        if (before == FOUND) != (after == FOUND)
    ]
    return [one for one in changes if one.after == FOUND], [one for one in changes if one.before == FOUND]

"""Two runs on the same test images: differences with paired bootstrap intervals, objects fixed and broken.

Both runs are measured on the same draws of images, so that what is hard in an image cancels: the interval of the
difference is far narrower than the two runs' own (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993).
Letters: i images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Int64

from src.evaluation.analysis import SecondStageAnalysis
from src.evaluation.bootstrap import LEVEL, SEED, ClassMatches, match_class, weighted_ap50
from src.evaluation.coco_matching import OverlapType
from src.evaluation.funnel import FOUND, Funnel, count_fates, fates
from src.evaluation.instances import GroundTruth, Instances

IOUS: Final = tuple(np.linspace(0.5, 0.95, 10).tolist())  # COCO's
Measure = Callable[[Int64[np.ndarray, " i"]], float | None]  # a number of the images, each taken so many times


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
    known = {_identity(truth): place for place, truth in enumerate(first)}
    pairs = ((known.get(_identity(truth)), place) for place, truth in enumerate(second))
    return [(one, other) for one, other in pairs if one is not None]


def _identity(truth: GroundTruth) -> tuple[object, ...]:
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
    measures = [measures_of(run) for run in (first, second)]
    images = len(first.truth)
    generator = torch.Generator().manual_seed(SEED)
    draws = [torch.randint(images, (images,), generator=generator).numpy() for _ in range(resamples if images else 0)]
    weights = [np.bincount(draw, minlength=images) for draw in draws]
    return [_difference(name, measures[0][name], measures[1][name], images, weights) for name in measures[0]]


def measures_of(run: Run) -> dict[str, Measure]:
    """The numbers that are compared, by name, each a function of how often each image is taken."""
    measures: dict[str, Measure] = {}
    kinds: tuple[OverlapType, ...] = ("box", "mask")
    for kind in kinds:
        matched = [_matched(run, kind, iou) for iou in IOUS]
        measures[f"{kind} AP50"] = _mean_ap(matched[:1])
        measures[f"{kind} AP"] = _mean_ap(matched)
    measures["objects found"] = _share_found(run)
    return measures


def _mean_ap(matched: Sequence[Sequence[ClassMatches]]) -> Measure:
    """The mean over IoU thresholds, given each one's matches by class."""

    def measure(weights: Int64[np.ndarray, " i"]) -> float | None:
        known = [value for at in matched if (value := weighted_ap50(at, weights)) is not None]
        return sum(known) / len(known) if known else None

    return measure


def _share_found(run: Run) -> Measure:
    hits = np.array([sum(fate == FOUND for fate in picture) for picture in run.fates], np.int64)
    objects = np.array([len(picture) for picture in run.fates], np.int64)

    def measure(weights: Int64[np.ndarray, " i"]) -> float | None:
        whole = int((objects * weights).sum())
        return int((hits * weights).sum()) / whole if whole else None

    return measure


def _matched(run: Run, kind: OverlapType, iou: float) -> list[ClassMatches]:
    labels = sorted({label for truth in run.truth for label in truth.labels[~truth.crowd].tolist()})
    return [match_class(run.truth, run.found, label, kind, iou) for label in labels]


def _difference(
    name: str, first: Measure, second: Measure, images: int, draws: Sequence[Int64[np.ndarray, " i"]]
) -> Difference:
    once = np.ones(images, np.int64)
    pairs = [(first(weights), second(weights)) for weights in draws]
    known = [after - before for before, after in pairs if before is not None and after is not None]
    if not known:
        return Difference(name, first(once), second(once), None, None)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(name, first(once), second(once), float(low), float(high))


def changed_objects(first: Run, second: Run) -> tuple[list[Changed], list[Changed]]:
    """Objects that the second run alone finds, and those that the first alone does."""
    changes = [
        Changed(image, place, before, after)
        for image, (befores, afters) in enumerate(zip(first.fates, second.fates, strict=True))
        for place, (before, after) in enumerate(zip(befores, afters, strict=True))
        if (before == FOUND) != (after == FOUND)
    ]
    return [one for one in changes if one.after == FOUND], [one for one in changes if one.before == FOUND]

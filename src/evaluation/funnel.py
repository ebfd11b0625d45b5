"""Which step lost each object that the detector missed (task 15).

An object is found where a detection of its class, scored high enough to be drawn, takes it at a box IoU of 0.5 (COCO's
rule: each detection one object, the most confident first) with a mask whose IoU is 0.5 too. For one that is not found,
those of its image's candidates that are still on its side are followed from step to step; the first step after which
none is left has lost it. So every missed object is counted once, at one step.

The steps up to the suppression are looked at where the candidates are, in `src.evaluation.last_steps`. TIDE's count of
missed objects (`src.evaluation.errors`) is a smaller one: it leaves out what a wrong detection explains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from src.evaluation.coco_matching import match_objects, pair_overlaps
from src.evaluation.instances import GroundTruth, Instances

COVERS: Final = 0.5  # IoU from which on a box or a mask is about an object
FOUND: Final = "found"
# In the order in which an object meets them.
STEPS: Final = (
    "no_anchor",  # no proposal covers it, and no anchor does
    "no_proposal",  # an anchor covers it, but none of the proposals that are kept
    "background",  # its proposals are all called background
    "other_class",  # its proposals are called background or another class
    "box",  # the regressor leaves no box of its class on it
    "border",  # its boxes cross the picture's border and are removed
    "suppressed",  # its boxes are suppressed for others, beyond the most confident ones, or taken for its neighbor's
    "score",  # its boxes are scored below the threshold
    "mask",  # its box is found, but the mask does not fit
)


@dataclass(frozen=True)
class Funnel:
    """Objects of a split, crowd regions left out, by what became of them: `FOUND` or the step that lost them."""

    counts: dict[str, int]

    @property
    def objects(self) -> int:
        """All of them."""
        return sum(self.counts.values())

    @property
    def found(self) -> int:
        """Those that a detection takes."""
        return self.counts[FOUND]

    def as_metrics(self) -> dict[str, Any]:
        """The entry `funnel` of `metrics/evaluate.json`."""
        lost = {step: self.counts[step] for step in STEPS}
        return {"objects": self.objects, "found": self.found, "missed": self.objects - self.found, "lost_at": lost}

    def rows(self) -> list[dict[str, str | int]]:
        """Rows `step`, `lost`, `left` in the order of the steps, as a csv for DVC's plots."""
        rows: list[dict[str, str | int]] = []
        left = self.objects
        for step in STEPS:
            left -= self.counts[step]
            rows.append({"step": step.replace("_", " "), "lost": self.counts[step], "left": left})
        return rows


def count_fates(fates: Sequence[Sequence[str]]) -> Funnel:
    """The funnel of all pictures' objects."""
    counted = Counter(fate for picture in fates for fate in picture)
    return Funnel({fate: counted[fate] for fate in (*STEPS, FOUND)})


@dataclass(frozen=True)
class Outcome:
    """What becomes of an object, whatever the score threshold.

    Attributes:
        taken_by: the detection that takes it by its box, by its place; None where none does.
        taken: its fate where that detection is scored high enough: `FOUND`, or `mask` where the mask does not fit.
        lost: the step that loses it where there is no such detection.
    """

    taken_by: int | None
    taken: str
    lost: str


def outcomes(truth: GroundTruth, found: Instances, lost_at: Sequence[str]) -> list[Outcome]:
    """Of each object of a picture, crowd regions left out, in their order; arguments and errors as for `fates`."""
    crowd = truth.crowd.numpy()
    taken_by = {match: row for row, match in enumerate(match_objects(truth, found, COVERS).tolist())}
    mask_overlap = None if found.masks is None else pair_overlaps(truth, found, "mask")
    result = []
    for index, step in zip((~crowd).nonzero()[0].tolist(), lost_at, strict=True):
        row = taken_by.get(index)
        fits = row is None or mask_overlap is None or mask_overlap[row, index] >= COVERS
        # One that is there, but not sure enough, was not suppressed.
        lost = "score" if row is not None and step == "suppressed" else step
        result.append(Outcome(row, FOUND if fits else "mask", lost))
    return result


def fates(truth: GroundTruth, found: Instances, lost_at: Sequence[str], score_threshold: float) -> list[str]:
    """What became of each object of a picture, crowd regions left out, in their order: `FOUND` or a step.

    Args:
        truth: the picture.
        found: its detections.
        lost_at: the step that loses each object, crowd regions left out, unless a detection takes it: `last_steps`.
        score_threshold: a detection below it finds nothing.

    Raises:
        ValueError: `lost_at` is of another length.
    """
    shown = (found.scores >= score_threshold).tolist()
    return [
        one.taken if one.taken_by is not None and shown[one.taken_by] else one.lost
        for one in outcomes(truth, found, lost_at)
    ]

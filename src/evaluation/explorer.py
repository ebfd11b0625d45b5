"""What the report's explorer knows of a picture: objects and what became of them, detections and what each is.

A reader moves the score threshold in the page, yet the page measures nothing: what a detection is does not depend on
less confident ones (`src.evaluation.errors`), and an object has one fate where the detection that takes it is shown and
another where it is not (`src.evaluation.funnel`). Both stand here, so the page only counts. Coordinates are the
picture's own pixels; masks are COCO's run lengths without their size, which is the picture's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from torch import Tensor

from src.evaluation.analysis import SecondStageAnalysis
from src.evaluation.detection import SIZES, holds
from src.evaluation.errors import EXPLAINING, judge
from src.evaluation.funnel import outcomes
from src.evaluation.instances import GroundTruth, Instances
from src.evaluation.rle import Rle, mask_areas
from src.structures.classes import Classes

BEST_PROPOSALS: Final = 20  # of each picture
DIGITS: Final = 1  # of a box's corners, after the point


def describe(truth: GroundTruth, analysis: SecondStageAnalysis, border: str) -> dict[str, Any]:
    """A test image.

    Args:
        truth: what it holds.
        analysis: what the detector did on it.
        border: the rule for boxes across the border whose detections are shown.

    Returns:
        `name`, `height`, `width`, `proposals` (the RPN's best, whole pixels) and two lists. `objects`: `label`, `box`,
        `mask`, `sizes`, and `taken_by`, `taken`, `lost` of its `Outcome`, or `crowd` for a region of many; then those
        that nobody annotated, with `label`, `box` and `unlabeled` alone. `detections`, surest first, are as
        `describe_found` has them, with `kind`, `about` (a place in `objects`, None for nothing) and `overlap`.
    """
    found = surest_first(analysis.found[border])
    detections = describe_found(found)
    for entry, judged in zip(detections, judge(truth, found), strict=True):
        about = judged.about if judged.about >= 0 else None
        entry |= {"kind": judged.kind, "about": about, "overlap": round(judged.overlap, 3)}
    return {
        "name": truth.name,
        "height": truth.height,
        "width": truth.width,
        "objects": _objects(truth, found, analysis.lost_at),
        "detections": detections,
        "proposals": analysis.proposals[:BEST_PROPOSALS].round().int().tolist(),
    }


def surest_first(found: Instances) -> Instances:
    """The same by falling score; equal ones stay in their order."""
    return found.keep(found.scores.argsort(descending=True, stable=True))


def describe_found(found: Instances) -> list[dict[str, Any]]:
    """Detections: `label`, `score` (every digit), `box`, `mask`, `sizes` and, if known, `before`, the RPN's box."""
    sizes = _sizes(found.masks, found.boxes)
    columns = zip(found.labels.tolist(), _exact(found.scores), _corners(found.boxes), sizes, strict=True)
    entries = [{"label": label, "score": score, "box": box, "sizes": size} for label, score, box, size in columns]
    for entry, mask in zip(entries, found.masks or [], strict=found.masks is not None):
        entry["mask"] = mask["counts"]
    for entry, box in zip(entries, [] if found.proposals is None else _corners(found.proposals), strict=False):
        entry["before"] = box
    return entries


def settings(classes: Classes, score_threshold: float) -> dict[str, Any]:
    """What the explorer has to know beside the pictures; `explaining` are kinds of detections (`EXPLAINING`)."""
    return {"classes": list(classes.names), "threshold": score_threshold, "explaining": list(EXPLAINING)}


def _objects(truth: GroundTruth, found: Instances, lost_at: Sequence[str]) -> list[dict[str, Any]]:
    fate = iter(outcomes(truth, found, lost_at))
    columns = zip(truth.labels.tolist(), _corners(truth.boxes), truth.masks, truth.crowd.tolist(), strict=True)
    entries: list[dict[str, Any]] = []
    for (label, box, mask, crowd), sizes in zip(columns, _sizes(truth.masks, truth.boxes), strict=True):
        entry = {"label": label, "box": box, "mask": mask["counts"], "sizes": sizes}
        entries.append(entry | ({"crowd": True} if crowd else vars(next(fate))))
    unlabeled = zip(truth.unlabeled_labels.tolist(), _corners(truth.unlabeled_boxes), strict=True)
    return entries + [{"label": label, "box": box, "unlabeled": True} for label, box in unlabeled]


def _sizes(masks: list[Rle] | None, boxes: Tensor) -> list[list[str]]:
    """COCO's names for the size of each mask, of each box where there are no masks; on the edge it has two."""
    sides = (boxes[:, 2:] - boxes[:, :2]).double()
    areas = sides.prod(dim=1).numpy() if masks is None else np.array(mask_areas(masks), np.float64)
    held = {name: holds(limits, areas) for name, limits in SIZES.items()}
    return [[name for name, inside in held.items() if inside[place]] for place in range(len(areas))]


def _corners(boxes: Tensor) -> list[list[float]]:
    return [[round(value, DIGITS) for value in box] for box in boxes.double().tolist()]


def _exact(scores: Tensor) -> list[float]:
    """The shortest numbers that are these float32 values, so that a threshold cuts in the page where it does here."""
    return [float(str(value)) for value in scores.numpy()]

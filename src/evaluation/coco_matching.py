"""COCO's assignment of detections to objects: each object once, the most confident detection first.

Bootstrap, mask IoU and error analysis share it, so that what they call a match is what AP calls one
(Lin et al., Microsoft COCO, ECCV 2014; `evaluateImg` of pycocotools is the reference).
Letters: d detections, g ground truth objects.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from src.evaluation.instances import GroundTruth, Instances
from src.evaluation.rle import overlaps

OverlapType: TypeAlias = Literal["box", "mask"]
UNMATCHED: Final = -1


def pair_overlaps(truth: GroundTruth, found: Instances, kind: OverlapType = "box") -> Float64[np.ndarray, "d g"]:
    """Overlap of each detection with each object of the picture, of any class, as COCO measures it.

    Raises:
        ValueError: masks are asked for and the detections have none.
    """
    crowd = truth.crowd.tolist()
    if kind == "box":
        return overlaps(found.boxes, truth.boxes, crowd)
    if found.masks is None:
        raise ValueError(f"{truth.name}: expected detections with masks, found none")
    return overlaps(found.masks, truth.masks, crowd)


def same_class(truth: GroundTruth, found: Instances) -> Bool[np.ndarray, "d g"]:
    """Which detections carry the label of which object."""
    return found.labels.numpy()[:, None] == truth.labels.numpy()[None, :]


def same_class_overlaps(truth: GroundTruth, found: Instances, kind: OverlapType = "box") -> Float64[np.ndarray, "d g"]:
    """The same, and 0 for pairs of different classes, which may not match."""
    return pair_overlaps(truth, found, kind) * same_class(truth, found)


def match_objects(truth: GroundTruth, found: Instances, threshold: float = 0.5) -> Int64[np.ndarray, " d"]:
    """The object of its class that each detection of an image takes by its box, or UNMATCHED: see `greedy_match`."""
    return greedy_match(same_class_overlaps(truth, found), found.scores.numpy(), truth.crowd.numpy(), threshold)


def greedy_match(
    overlap: Float[np.ndarray, "d g"],
    scores: Float[np.ndarray, " d"],
    crowd: Bool[np.ndarray, " g"],
    threshold: float = 0.5,
    aside: Bool[np.ndarray, " g"] | None = None,
) -> Int64[np.ndarray, " d"]:
    """The object that each detection takes, or UNMATCHED.

    In order of falling score (equal scores: in the given order) a detection takes the free object that it overlaps
    most, if by at least `threshold`. What does not count comes last: crowd regions, which are never used up, and
    objects that are set aside, as those of another size, each only once. A detection that takes one of these is to be
    left out of the count. A second detection of one object is UNMATCHED: a false positive.

    Args:
        overlap: IoU, and 0 for pairs that may not match, as those of different classes.
        scores: of the detections.
        crowd: which objects are crowd regions.
        threshold: above 0.
        aside: objects that do not count, beside crowd regions; none where nothing is said.
    """
    matches = np.full(len(scores), UNMATCHED, np.int64)
    counted = ~crowd if aside is None else ~(crowd | aside)
    free = np.ones_like(crowd)
    for index in np.argsort(-scores, kind="stable"):
        close = (overlap[index] >= threshold) & (free | crowd)
        candidates = close & counted if (close & counted).any() else close & ~counted
        if candidates.any():
            chosen = _last_largest(np.where(candidates, overlap[index], -1.0))
            matches[index] = chosen
            free[chosen] = False
    return matches


def _last_largest(values: Float[np.ndarray, " g"]) -> int:
    """Index of the largest value, the last of equals: pycocotools goes on to an equally good object."""
    return len(values) - 1 - int(np.argmax(values[::-1]))

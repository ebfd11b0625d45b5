"""COCO's AP of weighted images, one draw after another: the reference for all draws at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from src.evaluation.class_matches import ClassMatches


def plain_ap(classes: Sequence[ClassMatches], weights: np.ndarray) -> float | None:
    """AP of the pictures, each taken `weights` times: the mean over the classes that have objects, else None."""
    known = [value for one in classes if (value := _class_ap(one, weights)) is not None]
    return sum(known) / len(known) if known else None


def _class_ap(one: ClassMatches, weights: np.ndarray) -> float | None:
    objects = int((one.objects * weights).sum())
    if not objects:
        return None
    times = weights[one.image]
    true, all_found = np.cumsum(times * one.right), np.cumsum(times)
    precision = true / np.maximum(all_found, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(true / objects, np.linspace(0.0, 1.0, 101))
    return float(np.append(envelope, 0.0)[np.minimum(places, len(envelope))].mean())

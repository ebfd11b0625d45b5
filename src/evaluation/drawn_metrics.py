"""Metrics of a detector in each draw of the test images, under the names that they have in `metrics/`.

What images do to a mean over several trainings is found from these: every training is measured in the same draws, so
that means and differences can be taken within a draw. Letters: i images, s draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, get_args

import numpy as np
import torch
from jaxtyping import Float64, Int64

from src.evaluation.analysis import SecondStageAnalysis
from src.evaluation.bootstrap import SEED, drawn_weights
from src.evaluation.coco_matching import OverlapType
from src.evaluation.instances import GroundTruth, Instances
from src.evaluation.mask_iou import mean_mask_iou
from src.evaluation.paired import ALL, MEASURES, Group, group_measures
from src.evaluation.run_comparison import identity

RESAMPLES: Final = 1000

Drawn = dict[str, Float64[np.ndarray, " s"]]  # of each metric its value in each draw, NaN where there is none


def weights_of(images: int, resamples: int = RESAMPLES) -> Int64[np.ndarray, "s i"]:
    """How often each draw has each image, the same for all that have as many; the images as they are come first."""
    return drawn_weights(images, torch.Generator().manual_seed(SEED), resamples)


def images_digest(truth: Sequence[GroundTruth]) -> str:
    """Eight digits of the images' names, sizes and objects: equal where two detectors met the same test images."""
    text = "\n".join(repr(identity(one)) for one in truth)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def drawn_ap(
    truth: Sequence[GroundTruth],
    found: Sequence[Instances],
    weights: Int64[np.ndarray, "s i"],
    kind: OverlapType = "box",
) -> Drawn:
    """`ap`, `ap50` and `ap75` over all classes, as a detector's part of `metrics/detectors.json` has them for boxes.

    Args:
        truth: the images.
        found: in each.
        weights: how often each draw has each image.
        kind: whether boxes or masks are matched.
    """
    labels = {label for one in truth for label in one.labels[~one.crowd].tolist()}
    columns = group_measures(truth, found, Group(ALL, tuple(sorted(labels))), weights, kind).T
    return dict(zip(MEASURES, columns, strict=True))


def drawn_metrics(
    truth: Sequence[GroundTruth],
    analyses: Sequence[SecondStageAnalysis],
    border: str,
    weights: Int64[np.ndarray, "s i"],
) -> Drawn:
    """Numbers of `metrics/evaluate.json`, by their dotted names.

    Args:
        truth: the images.
        analyses: what stage `detect` wrote of them, in the same order.
        border: the rule for boxes across the border.
        weights: how often each draw has each image.
    """
    found = [one.found[border] for one in analyses]
    result: Drawn = {}
    for kind in get_args(OverlapType):
        result |= {f"{kind}_{name}": values for name, values in drawn_ap(truth, found, weights, kind).items()}
    masks = [mean_mask_iou([one], [ours]) for one, ours in zip(truth, found, strict=True)]
    after = [one.iou_after.double() for one in analyses]
    return result | {
        "mask_iou": _ratios([one.iou_sum for one in masks], [one.matched for one in masks], weights),
        "classifier.macro_recall": _macro_recall(analyses, weights),
        "regressor.iou_after": _ratios([float(one.sum()) for one in after], [len(one) for one in after], weights),
    }


def _macro_recall(
    analyses: Sequence[SecondStageAnalysis], weights: Int64[np.ndarray, "s i"]
) -> Float64[np.ndarray, " s"]:
    """The mean over the object classes of the share of their RoIs that are classified right."""
    labels = sorted({label for one in analyses for label in one.truth.tolist() if label > 0})
    if not labels:
        return np.full(len(weights), np.nan)
    recalls = []
    for label in labels:
        right = [int(((one.truth == label) & (one.predicted == label)).sum()) for one in analyses]
        recalls.append(_ratios(right, [int((one.truth == label).sum()) for one in analyses], weights))
    known = ~np.isnan(recalls)
    total, count = np.where(known, recalls, 0).sum(axis=0), known.sum(axis=0)
    return np.where(count, total / np.maximum(count, 1), np.nan)


def _ratios(
    sums: Sequence[float], counts: Sequence[int], weights: Int64[np.ndarray, "s i"]
) -> Float64[np.ndarray, " s"]:
    """A mean over what images hold, in each draw, from each image's sum and count."""
    total, count = weights @ np.array(sums, np.float64), weights @ np.array(counts, np.int64)
    return np.where(count, total / np.maximum(count, 1), np.nan)

"""Average precision of boxes and masks over all images of a split, as COCO defines it (tasks 15 and 17).

faster-coco-eval does the counting; tests hold it against pycocotools. COCO's -1 for "no object of that class" becomes
None, which json writes as null. At most 100 detections per class and image count, COCO's rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

RECALLS: Final = tuple(round(0.01 * step, 2) for step in range(101))  # COCO's recall levels
IOU_50, IOU_75 = 0, 5  # places of the thresholds in COCO's 0.50, 0.55, ... 0.95
AreaRange: TypeAlias = tuple[float, float]
SIZES: Final[Mapping[str, AreaRange]] = {  # COCO's, square pixels of the picture, in its evaluator's order after "all"
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e5**2),
}


@dataclass(frozen=True)
class AveragePrecision:
    """AP at IoU 0.50:0.95, at 0.5 and at 0.75, 0 to 1; None where there is nothing to find or nothing measured."""

    ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None


@dataclass(frozen=True)
class ClassMetrics:
    """One class: AP of boxes and masks, and the box curve at IoU 0.5 (precision at each of `RECALLS`) or None."""

    box: AveragePrecision
    mask: AveragePrecision
    curve: tuple[float, ...] | None


@dataclass(frozen=True)
class DetectionMetrics:
    """AP over the classes that have objects, of each class by name, and of boxes by the size of the object."""

    box: AveragePrecision
    mask: AveragePrecision
    by_class: dict[str, ClassMetrics]
    box_by_size: dict[str, AveragePrecision]

    def as_metrics(self) -> dict[str, Any]:
        """The entries of `metrics/evaluate.json`: box_ap ... mask_ap75 and by_class."""
        by_class = {name: _entries(one.box, one.mask) for name, one in self.by_class.items()}
        return {**_entries(self.box, self.mask), "by_class": by_class}


def _entries(box: AveragePrecision, mask: AveragePrecision) -> dict[str, float | None]:
    found = (("box", box), ("mask", mask))
    return {f"{kind}_{name}": value for kind, one in found for name, value in vars(one).items()}


def evaluate_detections(ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> DetectionMetrics:
    """AP of COCO results on a COCO ground truth; neither is changed.

    Without any detection AP is 0; without any object it is None. Mask AP is None if a result has no `segmentation`.

    Args:
        ground_truth: COCO instances, as `coco_ground_truth` gives.
        results: COCO results, as `coco_results` gives, of any of its images.

    Raises:
        ValueError: a result belongs to an image that the ground truth does not have.
    """
    unknown = {entry["image_id"] for entry in results} - {image["id"] for image in ground_truth["images"]}
    if unknown:
        raise ValueError(f"results: expected images of the ground truth, found image_id {min(unknown)}")
    by_area = _precision(ground_truth, results, "bbox")  # [10, 101, classes, all and each of SIZES]
    box = by_area[..., 0]
    with_masks = all("segmentation" in entry for entry in results)
    mask = _precision(ground_truth, results, "segm")[..., 0] if with_masks else np.full_like(box, -1.0)
    categories = sorted(ground_truth["categories"], key=lambda category: category["id"])
    by_class = {
        category["name"]: ClassMetrics(_average(box[..., [k]]), _average(mask[..., [k]]), _curve(box[IOU_50, :, k]))
        for k, category in enumerate(categories)
    }
    by_size = {name: _average(by_area[..., place]) for place, name in enumerate(SIZES, start=1)}
    return DetectionMetrics(_average(box), _average(mask), by_class, by_size)


def _precision(ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], kind: str) -> np.ndarray:
    """COCO's precision [10 thresholds, 101 recalls, classes, 4 areas] at 100 detections; -1 where undefined."""
    # Entries are copied on both sides, as the evaluator writes ids, areas and run lengths into them; what they hold is
    # only read.
    truth = COCO({**ground_truth, "annotations": [dict(entry) for entry in ground_truth["annotations"]]})
    found = truth.loadRes([dict(entry) for entry in results])
    evaluator = COCOeval_faster(truth, found, kind, print_function=_silence, rle_iou_max_workers=1)
    evaluator.evaluate()
    evaluator.accumulate()
    return np.asarray(evaluator.eval["precision"])[:, :, :, :, -1]


def _silence(*_: object) -> None:
    """Takes the evaluator's progress messages."""


def _average(precision: np.ndarray) -> AveragePrecision:
    """Means over what is defined in [10, 101, classes]."""
    return AveragePrecision(_mean(precision), _mean(precision[IOU_50]), _mean(precision[IOU_75]))


def _mean(precision: np.ndarray) -> float | None:
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None


def _curve(precision: np.ndarray) -> tuple[float, ...] | None:
    return None if (precision < 0).any() else tuple(float(value) for value in precision)


def curve_rows(metrics: DetectionMetrics) -> list[dict[str, str | float]]:
    """Rows `class`, `recall`, `precision` of the box curves at IoU 0.5, for a csv; the mean of a class is its AP50."""
    return [
        {"class": name, "recall": recall, "precision": precision}
        for name, one in metrics.by_class.items()
        for recall, precision in zip(RECALLS, one.curve or (), strict=one.curve is not None)
    ]

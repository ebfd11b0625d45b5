"""Average precision of boxes and masks over all images of a split, as COCO defines it (tasks 15 and 17).

faster-coco-eval does the counting; tests hold it against pycocotools. COCO's -1 for "no object of that class" becomes
None, which json writes as null. At most 100 detections per class and image count, COCO's rule. Sizes are those of the
objects' masks in the pictures' own pixels, as COCO's are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from jaxtyping import Bool

RECALLS: Final = tuple(round(0.01 * step, 2) for step in range(101))  # COCO's recall levels
IOU_50, IOU_75 = 0, 5  # places of the thresholds in COCO's 0.50, 0.55, ... 0.95
ALL, SMALL, MEDIUM, LARGE = range(4)  # places of COCO's areas: any, below 32^2, 32^2 to 96^2, above it
FIRST_1, FIRST_10, FIRST_100 = range(3)  # places of COCO's limits of detections in an image
AreaRange: TypeAlias = tuple[float, float]
SIZES: Final[Mapping[str, AreaRange]] = {  # COCO's, square pixels of the picture, in its evaluator's order after "all"
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e5**2),
}


def holds(areas: AreaRange, values: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Which areas, square pixels, lie in a range, its ends included, as COCO has it."""
    return (values >= areas[0]) & (values <= areas[1])


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's nine numbers, 0 to 1; None where there is nothing to find or nothing measured.

    Attributes:
        ap: over IoU 0.50:0.95.
        ap50: at IoU 0.5.
        ap75: at IoU 0.75.
        ap_small: `ap` of objects of less than 32 x 32 pixels.
        ap_medium: of those up to 96 x 96.
        ap_large: of those above.
        ar_1: average recall over IoU 0.50:0.95 with one detection in an image, by class.
        ar_10: with ten.
        ar_100: with a hundred.
    """

    ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None
    ap_small: float | None = None
    ap_medium: float | None = None
    ap_large: float | None = None
    ar_1: float | None = None
    ar_10: float | None = None
    ar_100: float | None = None


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
        """The entries of `metrics/evaluate.json`: box_ap ... mask_ar_100 and by_class."""
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
    box = _Curves.measured(ground_truth, results, "bbox")
    with_masks = all("segmentation" in entry for entry in results)
    mask = _Curves.measured(ground_truth, results, "segm") if with_masks else box.undefined()
    categories = sorted(ground_truth["categories"], key=lambda category: category["id"])
    by_class = {
        category["name"]: ClassMetrics(box.of_class(k).average(), mask.of_class(k).average(), box.of_class(k).curve())
        for k, category in enumerate(categories)
    }
    by_size = {name: box.of_size(place) for place, name in enumerate(SIZES, start=SMALL)}
    return DetectionMetrics(box.average(), mask.average(), by_class, by_size)


@dataclass(frozen=True)
class _Curves:
    """What COCO's evaluator counts, -1 where undefined.

    Attributes:
        precision: [10 IoU thresholds, 101 recalls, classes, 4 areas, 3 limits of detections].
        recall: [10 IoU thresholds, classes, 4 areas, 3 limits].
    """

    precision: np.ndarray
    recall: np.ndarray

    @classmethod
    def measured(cls, ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], kind: str) -> _Curves:
        """Of boxes ("bbox") or masks ("segm")."""
        # Entries are copied on both sides, as the evaluator writes ids, areas and run lengths into them; what they hold
        # is only read.
        truth = COCO({**ground_truth, "annotations": [dict(entry) for entry in ground_truth["annotations"]]})
        found = truth.loadRes([dict(entry) for entry in results])
        evaluator = COCOeval_faster(truth, found, kind, print_function=_silence, rle_iou_max_workers=1)
        evaluator.evaluate()
        evaluator.accumulate()
        return cls(np.asarray(evaluator.eval["precision"]), np.asarray(evaluator.eval["recall"]))

    def undefined(self) -> _Curves:
        """Of the same shape, with nothing measured."""
        return _Curves(np.full_like(self.precision, -1.0), np.full_like(self.recall, -1.0))

    def of_class(self, number: int) -> _Curves:
        """Those of one class alone."""
        return _Curves(self.precision[:, :, [number]], self.recall[:, [number]])

    def average(self) -> AveragePrecision:
        """Means over what is defined."""
        sizes = [_mean(self.precision[..., area, FIRST_100]) for area in (SMALL, MEDIUM, LARGE)]
        recalls = [_mean(self.recall[..., ALL, limit]) for limit in (FIRST_1, FIRST_10, FIRST_100)]
        whole = self.precision[..., ALL, FIRST_100]
        return AveragePrecision(_mean(whole), _mean(whole[IOU_50]), _mean(whole[IOU_75]), *sizes, *recalls)

    def of_size(self, area: int) -> AveragePrecision:
        """AP, AP50 and AP75 of the objects of one of COCO's areas, by its place."""
        part = self.precision[..., area, FIRST_100]
        return AveragePrecision(_mean(part), _mean(part[IOU_50]), _mean(part[IOU_75]))

    def curve(self) -> tuple[float, ...] | None:
        """Precision of the first class at IoU 0.5, at each of `RECALLS`; None where it has no objects."""
        precision = self.precision[IOU_50, :, 0, ALL, FIRST_100]
        return None if (precision < 0).any() else tuple(float(value) for value in precision)


def _silence(*_: object) -> None:
    """Takes the evaluator's progress messages."""


def _mean(values: np.ndarray) -> float | None:
    """The mean of what is defined."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


def curve_rows(metrics: DetectionMetrics) -> list[dict[str, str | float]]:
    """Rows `class`, `recall`, `precision` of the box curves at IoU 0.5, for a csv; the mean of a class is its AP50."""
    return [
        {"class": name, "recall": recall, "precision": precision}
        for name, one in metrics.by_class.items()
        for recall, precision in zip(RECALLS, one.curve or (), strict=one.curve is not None)
    ]

"""Accuracy, precision and recall of the box head's classifier over RoIs, background included (task 15).

scikit-learn counts. A value without a denominator (precision of a class never predicted) is None, never NaN or a
made-up 0. Letters: n RoIs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support
from torch import Tensor

from src.structures.classes import BACKGROUND_NAME, Classes


@dataclass(frozen=True)
class ClassScore:
    """One class: share of its predictions that are right, share of its RoIs that are found, number of its RoIs."""

    precision: float | None
    recall: float | None
    support: int


@dataclass(frozen=True)
class ClassifierMetrics:
    """The classifier over all RoIs.

    Attributes:
        accuracy: share of the RoIs classified right, background included; None without RoIs.
        by_class: scores by class name, background first.
        confusion: numbers of RoIs, rows the truth, columns the prediction, background first.
    """

    accuracy: float | None
    by_class: dict[str, ClassScore]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def macro_precision(self) -> float | None:
        """Mean precision over the object classes where it is defined; background, easy and common, is left out."""
        return _mean([one.precision for one in self._objects])

    @property
    def macro_recall(self) -> float | None:
        """Mean recall over the object classes where it is defined."""
        return _mean([one.recall for one in self._objects])

    @property
    def _objects(self) -> list[ClassScore]:
        return [one for name, one in self.by_class.items() if name != BACKGROUND_NAME]

    def as_metrics(self) -> dict[str, Any]:
        """The entry `classifier` of `metrics/evaluate.json`."""
        return {
            "accuracy": self.accuracy,
            "by_class": {name: vars(score) for name, score in self.by_class.items()},
            "macro_precision": self.macro_precision,
            "macro_recall": self.macro_recall,
            "confusion": [list(row) for row in self.confusion],
        }


def classifier_metrics(
    truth: Int64[Tensor, " n"], predicted: Int64[Tensor, " n"], classes: Classes
) -> ClassifierMetrics:
    """Counts RoIs by true and predicted class.

    Args:
        truth: class of each RoI by its ground truth, 0 for background.
        predicted: the most probable class of each.
        classes: what the labels stand for.

    Raises:
        ValueError: the two differ in length, or a label is not a class.
    """
    labels = list(range(classes.count))
    if len(truth) != len(predicted):
        raise ValueError(f"labels: expected as many predictions as RoIs, {len(truth)}, found {len(predicted)}")
    if not len(truth):  # scikit-learn refuses to count nothing
        nothing = {name: ClassScore(None, None, 0) for name in classes.with_background}
        return ClassifierMetrics(None, nothing, tuple((0,) * len(labels) for _ in labels))
    actual, guess = truth.cpu().numpy(), predicted.cpu().numpy()
    for name, values in (("truth", actual), ("predicted", guess)):
        if values.min() < 0 or values.max() >= len(labels):
            raise ValueError(f"{name}: expected labels 0 to {len(labels) - 1}, found {values.min()} to {values.max()}")
    precision, recall, _, support = precision_recall_fscore_support(actual, guess, labels=labels, zero_division=np.nan)
    by_class = {
        name: ClassScore(_defined(precision[i]), _defined(recall[i]), int(support[i]))
        for i, name in enumerate(classes.with_background)
    }
    confusion = confusion_matrix(actual, guess, labels=labels)
    return ClassifierMetrics(float(accuracy_score(actual, guess)), by_class, tuple(map(tuple, confusion.tolist())))


def confusion_rows(metrics: ClassifierMetrics) -> list[dict[str, str]]:
    """Rows `actual`, `predicted`, one per RoI, as DVC's `confusion` plot template wants them in a csv."""
    names = list(metrics.by_class)
    return [
        {"actual": names[i], "predicted": names[j]}
        for i, row in enumerate(metrics.confusion)
        for j, count in enumerate(row)
        for _ in range(count)
    ]


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

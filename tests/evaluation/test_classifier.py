"""The classifier's metrics by hand and against plain counting."""

import json

import numpy as np
import pytest
import torch

from src.evaluation.classifier import classifier_metrics, confusion_rows
from src.sources.assignment import CLASSES

TRUTH = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = torch.tensor([0, 0, 0, 1, 1, 2, 2, 0])


def test_confusion_by_hand_rows_are_the_truth():
    metrics = classifier_metrics(TRUTH, PREDICTED, CLASSES)
    assert metrics.confusion == ((3, 1, 0, 0), (0, 1, 1, 0), (1, 0, 1, 0), (0, 0, 0, 0))
    assert metrics.accuracy == 5 / 8


def test_precision_and_recall_by_hand():
    metrics = classifier_metrics(TRUTH, PREDICTED, CLASSES)
    assert vars(metrics.by_class["background"]) == {"precision": 0.75, "recall": 0.75, "support": 4}
    assert vars(metrics.by_class["vehicle"]) == {"precision": 0.5, "recall": 0.5, "support": 2}
    assert vars(metrics.by_class["animal"]) == {"precision": None, "recall": None, "support": 0}
    assert metrics.macro_precision == metrics.macro_recall == 0.5  # vehicle and person; background is left out


def test_undefined_is_null_never_nan():
    never_predicted = classifier_metrics(torch.tensor([3, 0]), torch.tensor([0, 0]), CLASSES)
    assert never_predicted.by_class["animal"].precision is None
    assert never_predicted.by_class["animal"].recall == 0.0
    assert never_predicted.macro_precision is None
    assert never_predicted.macro_recall == 0.0
    assert "NaN" not in json.dumps(never_predicted.as_metrics(), allow_nan=False)


def test_no_rois_at_all():
    empty = torch.zeros(0, dtype=torch.int64)
    entry = classifier_metrics(empty, empty, CLASSES).as_metrics()
    assert entry["accuracy"] is None
    assert entry["confusion"] == [[0] * 4] * 4
    assert list(entry["by_class"]) == list(CLASSES.with_background)
    json.dumps(entry, allow_nan=False)


@pytest.mark.parametrize("seed", range(5))
def test_against_plain_counting(seed):
    draw = np.random.default_rng(seed)
    truth, predicted = draw.integers(0, 4, 40), draw.integers(0, 3, 40)
    metrics = classifier_metrics(torch.from_numpy(truth), torch.from_numpy(predicted), CLASSES)
    for label, name in enumerate(CLASSES.with_background):
        both = int(((truth == label) & (predicted == label)).sum())
        said, is_so = int((predicted == label).sum()), int((truth == label).sum())
        assert metrics.by_class[name].precision == (both / said if said else None)
        assert metrics.by_class[name].recall == (both / is_so if is_so else None)
        assert metrics.by_class[name].support == is_so
    assert sum(map(sum, metrics.confusion)) == 40


def test_confusion_rows_give_the_matrix_back():
    metrics = classifier_metrics(TRUTH, PREDICTED, CLASSES)
    rows = confusion_rows(metrics)
    assert len(rows) == 8
    assert rows.count({"actual": "person", "predicted": "background"}) == 1


def test_hostile_labels():
    with pytest.raises(ValueError, match="expected labels 0 to 3"):
        classifier_metrics(torch.tensor([0]), torch.tensor([4]), CLASSES)
    with pytest.raises(ValueError, match="truth: expected labels"):
        classifier_metrics(torch.tensor([-1]), torch.tensor([0]), CLASSES)
    with pytest.raises((ValueError, TypeError)):  # TypeError from the shapes that only tests check
        classifier_metrics(torch.tensor([0]), torch.tensor([0, 1]), CLASSES)

"""`metrics/summary.json` and `metrics/provenance.json`: numbers, what they were measured on, and nothing that changes
from run to run."""

import json

from src.evaluation.headline import headline_numbers, provenance
from tests.reporting.runs import metrics

HEADLINE = {
    "box_ap": 0.487,
    "box_ap50": 0.782,
    "mask_ap": 0.441,
    "mask_ap50": 0.751,
    "mask_iou": 0.812,
    "rpn_accuracy": 0.912,
    "classifier_accuracy": 0.941,
    "proposal_recall": 0.93,
}


def test_the_headline_is_eight_numbers_in_their_order() -> None:
    numbers = headline_numbers(metrics())
    assert list(numbers.items()) == list(HEADLINE.items())
    json.dumps(numbers, allow_nan=False)


def test_an_undefined_number_stays_null() -> None:
    assert headline_numbers(metrics(rpn__balanced_accuracy=None)) == {**HEADLINE, "rpn_accuracy": None}


def test_provenance_holds_what_the_numbers_depend_on_and_no_more() -> None:
    """Neither seconds nor the commit: going back to a run has to leave Git clean."""
    found = provenance(metrics())
    assert list(found) == [
        *("source", "images", "train_images", "measured_on", "measured_images", "backbone", "weights"),
        *("precision", "convolutions", "threads", "device", "torch", "python"),
    ]
    assert found["source"] == "emoji"
    assert (found["measured_on"], found["measured_images"]) == ("test", 80)
    assert found["device"] == "CPU (x86_64)"
    json.dumps(found, allow_nan=False)


def test_the_split_is_the_one_that_was_evaluated() -> None:
    found = provenance(metrics(evaluate__split="validation", evaluate__images=51))
    assert (found["measured_on"], found["measured_images"]) == ("validation", 51)


def test_the_machine_is_the_one_that_evaluated() -> None:
    elsewhere = dict.fromkeys(("device", "precision", "convolutions", "threads", "python", "torch"), "another")
    found = provenance(metrics(rpn__conditions=elsewhere, backbone__conditions=elsewhere))
    assert found["device"] == "CPU (x86_64)"

"""The headline numbers of a run, and what they were measured on.

`metrics/summary.json` holds the numbers alone: they are what `dvc metrics` and `dvc exp show` list. What changes
without a result changing (seconds, the commit) stands in no file of Git's, so that going back to a run leaves it clean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# Headline number: the stage and key it comes from. Fractions on the test split.
HEADLINE: Final = {
    "box_ap": ("evaluate", "box_ap"),
    "box_ap50": ("evaluate", "box_ap50"),
    "mask_ap": ("evaluate", "mask_ap"),
    "mask_ap50": ("evaluate", "mask_ap50"),
    "mask_iou": ("evaluate", "mask_iou"),
    "rpn_accuracy": ("rpn", "balanced_accuracy"),
    "classifier_accuracy": ("evaluate", "classifier", "accuracy"),
    "proposal_recall": ("evaluate", "proposal_recall"),
}


def headline_numbers(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The content of `metrics/summary.json`.

    Args:
        metrics: content of `metrics/<name>.json` by its name, `rpn` and `evaluate` among them.
    """
    return {name: _at(metrics, place) for name, place in HEADLINE.items()}


def provenance(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `metrics/provenance.json`: data, weights and machine behind the numbers.

    Args:
        metrics: content of `metrics/<name>.json` by its name, `ingest`, `backbone` and `evaluate` among them.
    """
    conditions = metrics["evaluate"]["conditions"]
    return {
        **{key: metrics["ingest"][key] for key in ("source", "images", "train_images")},
        "measured_on": metrics["evaluate"]["split"],
        "measured_images": metrics["evaluate"]["images"],
        **{key: metrics["backbone"][key] for key in ("backbone", "weights")},
        **{key: conditions[key] for key in ("precision", "convolutions", "threads", "device", "torch", "python")},
    }


def _at(tree: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        tree = tree[key]
    return tree

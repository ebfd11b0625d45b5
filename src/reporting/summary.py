"""`metrics/summary.json`: the headline numbers of a run, how long its stages took, and what they were measured on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from src.core.errors import invalid
from src.core.files import read_json
from src.reporting.formatting import count, duration, percent, plural, score
from src.reporting.run_results import RunResults

# Headline number: the stage and key it comes from. Fractions on the test split.
HEADLINE: Final = {
    "box_ap": ("evaluate", "box_ap"),
    "box_ap50": ("evaluate", "box_ap50"),
    "mask_ap": ("evaluate", "mask_ap"),
    "mask_ap50": ("evaluate", "mask_ap50"),
    "mask_iou": ("evaluate", "mask_iou"),
    "rpn_accuracy": ("rpn", "accuracy"),
    "classifier_accuracy": ("evaluate", "classifier", "accuracy"),
    "proposal_recall": ("evaluate", "proposal_recall"),
}
STAGES: Final = (
    *("ingest", "prepare", "anchors", "rpn", "backbone", "features"),
    *("box_head", "mask_head", "evaluate", "predict"),
)
SOURCES: Final = {
    "emoji": "scenes composed from vector art",
    "course": "images in the course's format",
    "coco": "photos with COCO annotations",
}


def summarize(facts: RunResults) -> dict[str, Any]:
    """The content of `metrics/summary.json`.

    Raises:
        InputError: a stage's file or key is missing.
    """
    numbers = {name: facts.value(*place) for name, place in HEADLINE.items()}
    return {**numbers, "seconds": dict(facts.seconds), "measured_on": _measured_on(facts)}


def read_seconds(folder: Path) -> dict[str, float]:
    """Seconds of the stages before the report, from `<folder>/<stage>.json`; those without a file are left out.

    Raises:
        InputError: a file holds no number.
    """
    seconds = {}
    for stage in STAGES:
        path = folder / f"{stage}.json"
        if path.is_file():
            value = read_json(path)
            if not isinstance(value, int | float):
                raise invalid(path, "a number of seconds", repr(value))
            seconds[stage] = float(value)
    return seconds


def commit(root: Path) -> str:
    """The short name of the commit checked out in `root`; `unknown` without Git or outside a repository."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "-C", str(root), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  no input in it
    return found.stdout.strip() or "unknown"


def tiles(summary: dict[str, Any]) -> list[dict[str, str]]:
    """The six numbers at the head of the page."""
    total = sum(summary["seconds"].values())
    return [
        {"name": "box AP50", "value": score(summary["box_ap50"])},
        {"name": "mask AP50", "value": score(summary["mask_ap50"])},
        {"name": "mean mask IoU", "value": score(summary["mask_iou"])},
        {"name": "RPN accuracy, part (a)", "value": percent(summary["rpn_accuracy"])},
        {"name": "proposal recall, part (b)", "value": percent(summary["proposal_recall"])},
        {"name": "time of all stages", "value": duration(total) if total else "not known"},
    ]


def lead(summary: dict[str, Any]) -> str:
    """One sentence: what was done, on what."""
    on = summary["measured_on"]
    kind = SOURCES.get(on["source"], on["source"])
    return (
        f"A region proposal network built from nothing, then a full Mask R-CNN on a pretrained backbone, trained on "
        f"{plural(on['train_images'], 'image')} and measured on {count(on['test_images'])} others: {kind}."
    )


def headline(summary: dict[str, Any]) -> str:
    """The headline numbers as lines of text, for the terminal."""
    width = max(len(tile["name"]) for tile in tiles(summary))
    return "\n".join(f"  {tile['name']:<{width}}  {tile['value']}" for tile in tiles(summary))


def _measured_on(facts: RunResults) -> dict[str, Any]:
    conditions = facts.value("evaluate", "conditions")
    return {
        **{key: facts.value("ingest", key) for key in ("source", "images", "train_images", "test_images")},
        **{key: facts.value("backbone", key) for key in ("backbone", "weights")},
        **{key: conditions[key] for key in ("precision", "threads", "device", "torch", "python")},
        "commit": commit(facts.root),
    }

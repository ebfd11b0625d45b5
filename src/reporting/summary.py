"""The head of the page and the lines in the terminal: headline numbers in words, the seconds of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from src.core.errors import invalid
from src.core.files import read_json
from src.reporting.formatting import count, duration, percent, plural, score
from src.structures.detector import DETECTORS
from src.structures.sample import VALIDATION

STAGES: Final = (
    *("ingest", "prepare", "anchors", "rpn", "evaluate_rpn", "backbone", "evaluate_backbone", "features"),
    *("box_head", "mask_head", "joint", "one_stage", "detect", "evaluate", "predict"),
)
TILES: Final[dict[str, tuple[str, Callable[[float | None], str]]]] = {  # what the page calls a headline number
    "box_ap50": ("box AP50", score),
    "mask_ap50": ("mask AP50", score),
    "mask_iou": ("mean mask IoU", score),
    "rpn_accuracy": ("RPN accuracy, part (a)", percent),
    "proposal_recall": ("proposal recall, part (b)", percent),
}
PLUS_MINUS: Final = "\N{PLUS-MINUS SIGN}"
SOURCES: Final = {
    "emoji": "scenes composed from vector art",
    "course": "images in the course's format",
    "coco": "photos with COCO annotations",
}


def read_seconds(folder: Path) -> dict[str, float]:
    """Seconds of the stages before the report, from `<folder>/<stage>.json`; those without a file are left out.

    Raises:
        InputError: a file holds no number.
    """
    return _read_numbers(folder, STAGES, "a number of seconds")


def read_memory(folder: Path) -> dict[str, float]:
    """Peak of memory of the same stages, bytes, likewise."""
    return _read_numbers(folder, STAGES, "a number of bytes")


def read_seconds_an_image(folder: Path) -> dict[str, float]:
    """What each detector takes for an image on this machine, as stage `detect` left it in `<folder>/an_image`."""
    return _read_numbers(folder / "an_image", DETECTORS, "a number of seconds")


def _read_numbers(folder: Path, names: Sequence[str], expected: str) -> dict[str, float]:
    numbers = {}
    for name in names:
        path = folder / f"{name}.json"
        if path.is_file():
            value = read_json(path)
            if not isinstance(value, int | float):
                raise invalid(path, expected, repr(value))
            numbers[name] = float(value)
    return numbers


def banner(settings: str, split: str) -> str:
    """What a run with other settings than the default ones is, and how to get those; empty for the default.

    Args:
        settings: `report.settings`, the file of `settings/` that was applied.
        split: that everything was measured on.
    """
    texts = []
    if settings == "quick":
        texts.append(
            "This is the quick run: a small canvas, fewer scenes, short trainings. It shows every step and answers "
            "every question, with lower numbers than the full run (make report)."
        )
    elif settings != "default":
        texts.append(f"This run was made with settings/{settings}.yaml over the default settings.")
    if split == VALIDATION:
        texts.append(
            "It is measured on the validation part of the training images, which no training saw. Where the page says "
            "test images, it means those; curves of losses and task 9's image are of the test images all the same."
        )
    return " ".join(texts)


def tiles(
    numbers: Mapping[str, Any], seconds: Mapping[str, float], spreads: Mapping[str, float] | None = None
) -> list[dict[str, str]]:
    """The six numbers at the head of the page.

    Args:
        numbers: of `metrics/summary.json`.
        seconds: of the stages.
        spreads: how far another seed moves the numbers, where that is known.
    """
    total = sum(seconds.values())
    moved = spreads or {}
    return [
        {
            "name": name,
            "value": write(numbers[key]),
            "spread": f"{PLUS_MINUS} {write(moved[key])}" if key in moved else "",
        }
        for key, (name, write) in TILES.items()
    ] + [{"name": "time of all stages", "value": duration(total) if total else "not known", "spread": ""}]


def lead(measured_on: dict[str, Any]) -> str:
    """One sentence: what was done, on what."""
    trained_on = plural(measured_on["train_images"], "image")
    kind = SOURCES.get(measured_on["source"], measured_on["source"])
    return (
        f"A region proposal network built from nothing, then a full Mask R-CNN on a pretrained backbone, trained on "
        f"{trained_on} and measured on {count(measured_on['measured_images'])} others: {kind}."
    )


def headline(numbers: dict[str, Any], seconds: dict[str, float]) -> str:
    """The headline numbers as lines of text, for the terminal."""
    shown = tiles(numbers, seconds)
    width = max(len(tile["name"]) for tile in shown)
    return "\n".join(f"  {tile['name']:<{width}}  {tile['value']}" for tile in shown)

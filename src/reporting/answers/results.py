"""The run as a whole: AP of boxes and masks, by class, and how far to trust the numbers."""

from __future__ import annotations

import math
from typing import Any, Final

from src.reporting.answers.answer import Answer, Picture, Table
from src.reporting.answers.studies import seeds_in_words
from src.reporting.formatting import count, listing, percent, plural, score
from src.reporting.origin import fill
from src.reporting.run_results import RunResults
from src.structures.sample import TEST

GENUINE_IMAGES: Final = 3265  # of the course's own data set
# Box AP at IoU 0.5 that public solutions report on the genuine set: its classes in label order, mean.
PEERS: Final = (
    ("root221", ".931", ".969", ".936", ".945"),
    ("suveergarg", ".706", ".758", ".823", ".763"),
    ("Rory-WeiCheng", ".652", ".729", ".707", ".696"),
    ("santhanamhari", ".63", ".58", ".64", ".62"),
    ("harshg99", ".588", ".420", ".706", ".571"),
    ("voyager1998", "", "", "", ".527"),
    ("adithyakvh", ".408", ".368", ".616", ".464"),
)


def overall(results: RunResults) -> Answer:
    """AP of boxes and masks, and what to make of it."""
    source, images = results.value("ingest", "source"), results.value("ingest", "images")
    words = {
        "verdict": _verdict(results.value("evaluate", "box_ap50"), results.value("evaluate", "mask_ap50")),
        "errors": _errors(results.value("evaluate", "errors"), results.params.predict.score_threshold),
        "classes": _classes(results.value("evaluate", "by_class")),
        "interval": _interval(results.value("evaluate", "ap50_interval")),
        "caution": _caution(results, source),
        "left_out": _left_out(results.value("ingest")),
    }
    figures = {}
    if (results.root / "plots/evaluate/precision_recall.png").is_file():
        figures["curve"] = Picture(
            results.plot("evaluate/precision_recall.png"),
            "Precision over recall on the test split",
            "Precision over recall on the test split.",
        )
    tables = {"precision": _table(results)}
    if source == "course" and images == GENUINE_IMAGES:
        head = ("solution", *results.classes, "mean")
        tables["peers"] = Table(head, PEERS, "Box AP at IoU 0.5 of public solutions, as they report it.")
    return Answer(words, figures, tables)


def _verdict(box: float | None, mask: float | None) -> str:
    if box is None or mask is None:
        return "The test split has no objects, so AP is undefined."
    said = "the detector finds some objects, and overlooks most"
    if box >= 0.4:
        said = "many objects are found and named, and many are not"
    if box >= 0.7:
        said = "most objects are found, named and outlined"
    return fill("At IoU 0.5 the boxes reach an AP of {} and the masks {}: {}.", score(box), score(mask), said)


def _errors(errors: dict[str, int], threshold: float) -> str:
    """How many of the sure detections are right."""
    sure = sum(number for kind, number in errors.items() if kind not in ("missed", "ignored"))
    if not sure:
        return f"No detection is scored {threshold:g} or more."
    right = percent(errors["correct"] / sure)
    return f"Of the detector's {plural(sure, 'detection')} scored {threshold:g} or more, {right} are correct (task 15)."


def _classes(by_class: dict[str, dict[str, float | None]]) -> str:
    known = {name: entry["box_ap50"] for name, entry in by_class.items() if entry["box_ap50"] is not None}
    if len(known) < 2:
        return ""
    best, worst = max(known, key=lambda name: known[name] or 0), min(known, key=lambda name: known[name] or 0)
    text = "Of the classes, {} does best ({}) and {} worst ({})."
    return fill(text, best, score(known[best]), worst, score(known[worst]))


def _interval(intervals: dict[str, dict[str, Any] | None]) -> str:
    known = {kind: one for kind, one in intervals.items() if one is not None}
    if not known:
        return ""
    texts = [
        fill("between {} and {} for {}", score(one["low"]), score(one["high"]), kind) for kind, one in known.items()
    ]
    text = "Drawing the test images anew, with replacement, leaves AP50 {} in 95 of 100 draws."
    return fill(text, listing(texts))


def _caution(results: RunResults, source: str) -> str:
    """What a reader has to know before comparing: test set, seed, provenance of the weights."""
    split, images = results.value("evaluate", "split"), results.value("evaluate", "images")
    objects = sum(entry[split] for entry in results.value("ingest", "split").values())
    kinds = plural(len(results.classes), "class", "classes")
    text = f"The {split} split has {plural(images, 'image')} with {plural(objects, 'object')} of {kinds}"
    if objects:
        worst = 100 * math.sqrt(0.25 / objects)
        text += f", so a share of objects has a standard error of up to {worst:.1f} percentage points"
    text += ". It is one run with one seed, and numbers on other data cannot be compared with it."
    if moved := seeds_in_words(results):
        text += f" {moved}"
    if source == "emoji" and split == TEST:
        text += " The scenes are composed from drawings; shapes of the test split never occur in training."
    weights = str(results.value("backbone", "weights"))
    if weights not in ("imagenet", "coco", "none"):
        text += (
            " The backbone comes from a checkpoint; if it was fine-tuned on these data, as the course's was, it may "
            "have seen the test images, and AP is optimistic."
        )
    elif weights == "coco" and source != "emoji":
        text += " The backbone has learned from COCO's photos, among them possibly these: AP may be optimistic."
    return text


def _left_out(ingest: dict[str, Any]) -> str:
    """How much of a person's set is not in it, and why; empty where nothing was left out."""
    reasons = {noun: ingest.get(f"left_out_{noun}s", {}) for noun in ("image", "object")}
    parts = [
        f"{plural(sum(numbers.values()), noun)} ({', '.join(f'{why}: {number}' for why, number in numbers.items())})"
        for noun, numbers in reasons.items()
        if numbers
    ]
    return f"Left out of the set: {' and '.join(parts)}." if parts else ""


def _table(results: RunResults) -> Table:
    keys = [f"{kind}_{threshold}" for kind in ("box", "mask") for threshold in ("ap", "ap50", "ap75")]
    rows = [["all", *(score(results.value("evaluate", key)) for key in keys)]]
    for name, entry in results.value("evaluate", "by_class").items():
        rows.append([name, *(score(entry[key]) for key in keys)])
    head = ["class", *(f"{kind} {threshold}" for kind in ("box", "mask") for threshold in ("AP", "AP50", "AP75"))]
    images, split = results.value("evaluate", "images"), results.value("evaluate", "split")
    return Table(head, rows, f"Average precision on {count(images)} {split} images.")

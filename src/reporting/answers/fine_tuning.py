"""Task 8: what fine-tuning did to the proposals of the pretrained network."""

from __future__ import annotations

from typing import Any

from src.reporting.answers.answer import Answer, Picture, Table
from src.reporting.formatting import change, count, percent, plural, size
from src.reporting.origin import fill
from src.reporting.run_results import RunResults
from src.structures.sample import HEIGHT, WIDTH

WEIGHTS = {
    "imagenet": "ImageNet: the body knows about pictures; the pyramid (FPN) and the RPN start from random numbers",
    "coco": "COCO: body, pyramid and RPN have all seen boxes of 80 classes",
    "none": "nothing: every layer starts from random numbers",
}


def task_8(results: RunResults) -> Answer:
    """Proposals before and after fine-tuning."""
    before, after = results.value("backbone", "before"), results.value("backbone", "after")
    tuned = results.params.backbone.epochs > 0
    words = {
        "classes": plural(len(results.classes), "class", "classes"),
        "start": WEIGHTS.get(results.value("backbone", "weights"), "a checkpoint file in the course's format"),
        "input": _input(results.value("ingest", "source")),
        "learns": _learns(results.params.backbone.trainable_layers) if tuned else "",
        "verdict": _tuning(before, after, results.value("backbone", "weights")) if tuned else _untuned(before),
        "separation": _separation(before, after) if tuned else "",
    }
    figures = {
        "images": Picture(
            results.plot("evaluate_backbone/before_after.png"),
            "The best proposals before and after fine-tuning on the same test image",
            "The best proposals on the same test image, before and after fine-tuning; dashed: the ground truth.",
        ),
        "recall": Picture(
            results.charts / "recall.png",
            "Proposal recall at IoU 0.5 against the number of proposals, before and after fine-tuning",
            "Proposal recall on the same test images before and after fine-tuning.",
        ),
    }
    if tuned:
        figures["history"] = Picture(
            results.charts / "backbone.png",
            "Losses of the fine-tuning over iterations",
            "Losses of the fine-tuning; classification and box regression belong to the box head beside the RPN. "
            "Faint: each iteration; bold: running mean; dashed: test images.",
        )
    return Answer(words, figures, {"recall": _recall_table(before, after, where_measured(results))})


def _input(source: str) -> str:
    """How pictures of a source look to a network that knows COCO's."""
    if source == "coco":
        return "pictures brought to this frame are differently scaled"
    return f"pictures resized from {size(HEIGHT, WIDTH)} are smoother and differently scaled"


def where_measured(results: RunResults) -> str:
    """How many of the images proposal recall was measured on, if not on all."""
    compared, images = results.maybe("backbone", "compared"), results.value("evaluate", "images")
    if not compared or compared >= images:
        return ""
    return f" in {count(compared)} of the {results.value('evaluate', 'split')} images"


def _learns(stages: int) -> str:
    """What the fine-tuning changes, from how many of the body's five stages are trainable."""
    if stages == 0:
        return "The body stays as it started; pyramid and RPN learn."
    learn = "is trainable" if stages == 1 else "are trainable"
    return f"{plural(stages, 'stage')} of the body's five, counted from the deepest, {learn}, with pyramid and RPN."


def _tuning(before: dict[str, Any], after: dict[str, Any], weights: str) -> str:
    """What fine-tuning did to the proposals."""
    first, last = before["recall"], after["recall"]
    known = [key for key in last if last[key] is not None and first.get(key) is not None]
    if not known:
        return "Proposal recall was not measured in this run."
    most, few = max(known, key=int), min(known, key=int)
    text = fill(f"with {count(int(most))} proposals per image, recall at IoU 0.5 {{}}", change(first[most], last[most]))
    if few != most:
        ranked = change(first[few], last[few])
        text = fill(f"{{}}; with {count(int(few))}, where ranking decides, it {{}}", text, ranked)
    if weights in ("imagenet", "none"):
        return fill("Here pyramid and RPN start from random numbers and must learn: {}.", text)
    if last[few] > first[few] + 0.1:
        return fill("Here fine-tuning was essential: {}.", text)
    if last[few] > first[few]:
        return fill("Here fine-tuning helped a little: {}.", text)
    return fill("Here fine-tuning did not pay by this measure: {}.", text)


def _untuned(before: dict[str, Any]) -> str:
    recall = before["recall"]
    known = [key for key in recall if recall[key] is not None]
    text = "This run keeps the weights as they were loaded (backbone.epochs is 0)"
    if not known:
        return f"{text}."
    most = max(known, key=int)
    return f"{text}; {count(int(most))} proposals per image cover {percent(recall[most])} of the test objects."


def _separation(before: dict[str, Any], after: dict[str, Any]) -> str:
    """How far the mean objectness of positives and negatives lie apart, before and after."""
    values = [entry[f"objectness_{kind}"] for entry in (before, after) for kind in ("positive", "negative")]
    if any(value is None for value in values):
        return ""
    first, last = values[0] - values[1], values[2] - values[3]
    positive, negative = (change(values[kind], values[kind + 2], "score") for kind in (0, 1))
    verdict = "objects now stand out" if last > first else "the two are no further apart than before"
    text = "The mean objectness of positive anchors {}, that of negative ones {}: the distance between them {}, so {}."
    return fill(text, positive, negative, change(first, last, "score"), verdict)


def _recall_table(before: dict[str, Any], after: dict[str, Any], where: str) -> Table:
    keys = sorted(after["recall"], key=int)
    rows = [[count(int(key)), percent(before["recall"].get(key)), percent(after["recall"][key])] for key in keys]
    return Table(("proposals per image", "before", "after"), rows, f"Objects covered with IoU at least 0.5{where}.")

"""Tasks 8 to 13: the pretrained backbone, its proposals, RoIAlign, and the reasons for two stages."""

from __future__ import annotations

import math
from typing import Any

from src.reporting.answers.answer import Answer, Picture, Table
from src.reporting.facts import Facts
from src.reporting.words import MINUS, change, count, duration, is_above, percent, plural, score, size, small

__all__ = ["task_8", "task_9", "task_10", "task_11", "task_12", "task_13"]

WEIGHTS = {
    "imagenet": "ImageNet: the body knows about pictures; the pyramid (FPN) and the RPN start from random numbers",
    "coco": "COCO: body, pyramid and RPN have all seen boxes of 80 classes",
    "none": "nothing: every layer starts from random numbers",
}
LEVELS = {
    "P2": "small objects; edges and texture at the finest resolution",
    "P3": "small to medium objects",
    "P4": "medium objects; parts and their arrangement",
    "P5": "large objects; the most context, the coarsest place",
    "pool": "P5 subsampled: the largest anchors of the RPN only, not used by the heads",
}


def task_8(facts: Facts) -> Answer:
    """Proposals before and after fine-tuning."""
    before, after = facts.value("backbone", "before"), facts.value("backbone", "after")
    tuned = facts.params.backbone.epochs > 0
    words = {
        "start": WEIGHTS.get(facts.value("backbone", "weights"), "a checkpoint file in the course's format"),
        "learns": _learns(facts.params.backbone.trainable_layers) if tuned else "",
        "verdict": _tuning(before, after, facts.value("backbone", "weights")) if tuned else _untuned(before),
        "separation": _separation(before, after) if tuned else "",
    }
    figures = {
        "images": Picture(
            facts.plot("backbone/before_after.png"),
            "The best proposals before and after fine-tuning on the same test image",
            "The best proposals on the same test image, before and after fine-tuning; dashed: the ground truth.",
        ),
        "recall": Picture(
            facts.charts / "recall.png",
            "Proposal recall at IoU 0.5 against the number of proposals, before and after fine-tuning",
            "Proposal recall on the same test images before and after fine-tuning.",
        ),
    }
    if tuned:
        figures["history"] = Picture(
            facts.charts / "backbone.png",
            "Losses of the fine-tuning over iterations",
            "Losses of the fine-tuning; classification and refinement belong to an auxiliary head. Faint: each "
            "iteration; bold: running mean; dashed: test images.",
        )
    compared = facts.maybe("backbone", "compared")
    return Answer(words, figures, {"recall": _recall_table(before, after, compared)})


def task_9(facts: Facts) -> Answer:
    """The prepared image."""
    example = facts.value("prepare", "example")
    number = len(example["labels"])
    words = {
        "content": size(facts.value("prepare", "height"), facts.value("prepare", "width")),
        "canvas": size(facts.value("prepare", "height"), facts.value("prepare", "padded_width")),
        "left": plural(round(facts.value("prepare", "left")), "column"),
        "right": count(facts.value("prepare", "right")),
        "mean": _numbers(facts.value("prepare", "mean")),
        "std": _numbers(facts.value("prepare", "std")),
        "scale_x": score(facts.value("prepare", "scale_x"), 4),
        "scale_y": score(facts.value("prepare", "scale_y"), 4),
        "minimum": score(facts.value("prepare", "minimum"), 2),
        "maximum": score(facts.value("prepare", "maximum"), 2),
        "name": str(example["name"]),
        "fed": _fed(facts.maybe("backbone", "normalisation"), facts),
        "number": "two objects" if number == 2 else f"{plural(number, 'object')} (no test image has two)",
    }
    figure = Picture(
        facts.plot("prepare/two_objects.png"),
        "A test image after resizing, normalising and padding, with masks, labels and boxes",
        "The prepared image, its normalised values clipped to [0, 1], with masks, labels and ground-truth boxes.",
    )
    return Answer(words, {"image": figure})


def task_10(facts: Facts) -> Answer:
    """The backbone's outputs and the RPN's proposals."""
    outputs = facts.value("backbone", "outputs")
    losses = facts.value("backbone", "losses_in_train_mode")
    rows = [
        [
            str(output["name"]),
            size(*_shape(output)),
            count(output["stride"]),
            count(output["anchor_size"]),
            LEVELS.get(str(output["name"]), ""),
        ]
        for output in outputs
    ]
    found = facts.value("backbone", "proposals_on_example")
    most = facts.params.proposals.after_nms
    words = {
        "backbone": str(facts.value("backbone", "backbone")),
        "levels": count(len(outputs)),
        "channels": count(_shape(outputs[0])[0]),
        "proposals": plural(found, "proposal"),
        "limit": "the limit" if found >= most else f"below the limit of {count(most)}, since the rest overlapped",
        "objectness": score(losses["objectness"]),
        "regression": score(losses["regression"]),
        "candidates": count(candidates(facts)),
    }
    table = Table(
        ("output", "shape", "stride (px)", "anchor size (px)", "what it serves"),
        rows,
        "Outputs of the backbone for one image.",
    )
    figure = Picture(
        facts.plot("backbone/proposals.png"),
        "The image of task 9 with some of the proposals of the RPN",
        "Some of the proposals of the fine-tuned RPN on the image of task 9.",
    )
    return Answer(words, {"proposals": figure}, {"outputs": table})


def task_11(facts: Facts) -> Answer:
    """Alternating and end-to-end training; what this run's own scheme cost."""
    recall = facts.value("backbone", "proposal_recall")
    reach = "an unknown share, as recall was not measured"
    if recall is not None:
        reach = f"{percent(recall)} of the objects{_where(facts)} at IoU 0.5"
    kept = count(facts.params.proposals.after_nms)
    return Answer({"cost": _cost(facts.seconds), "ceiling": reach, "kept": kept})


def task_12(facts: Facts) -> Answer:
    """RoIAlign against torchvision's, and the levels that RoIs are pooled from."""
    difference = facts.value("features", "largest_difference_from_torchvision")
    levels = facts.value("features", "levels")
    stride = max(output["stride"] for output in facts.value("backbone", "outputs"))
    words = {
        "pooled": size(*facts.value("features", "pooled")),
        "rois": count(facts.value("features", "rois")),
        "images": count(facts.value("features", "images")),
        "parity": _parity(difference),
        "levels": _levels(levels),
        "half": count(min(stride, 32) / 2),
    }
    figure = Picture(
        facts.plot("features/crops.png"),
        "The image of task 9 and many of its regions, each warped to a square grid by RoIAlign",
        "The same image and many of its crops after RoIAlign.",
    )
    return Answer(words, {"crops": figure})


def task_13(facts: Facts) -> Answer:
    """Two stages against one, with the numbers of candidates in this run."""
    recall = facts.value("backbone", "proposal_recall")
    kept = facts.params.proposals.after_nms
    words = {
        "candidates": count(candidates(facts)),
        "kept": count(kept),
        "share": "an unknown share" if recall is None else percent(recall),
        "where": _where(facts),
        "heads": count(facts.params.features.proposals),
        "thinning": count(candidates(facts) / kept),
    }
    return Answer(words)


def candidates(facts: Facts) -> int:
    """Anchors of one image over all levels of the pyramid."""
    cells = sum(math.prod(_shape(output)[1:]) for output in facts.value("backbone", "outputs"))
    return cells * len(facts.params.backbone.anchor_ratios)


def _shape(output: dict[str, Any]) -> list[int]:
    """Channels, rows, columns, with or without a leading batch axis."""
    return list(output["shape"])[-3:]


def _fed(normalisation: dict[str, Any] | None, facts: Facts) -> str:
    """What part (b)'s backbone gets instead, where its weights expect another normalisation."""
    if normalisation is None or normalisation["mean"] == facts.value("prepare", "mean"):
        return ""
    mean, std = _numbers(normalisation["mean"]), _numbers(normalisation["std"])
    return f"The weights of this run's backbone expect mean {mean} and deviation {std}, so part (b) feeds it those."


def _learns(strides: int) -> str:
    """What the fine-tuning changes, from how many of the body's five strides learn."""
    if strides == 0:
        return "The body stays as it started; pyramid and RPN learn."
    return f"{plural(strides, 'stride')} of the body's five, counted from the deepest, can learn, with pyramid and RPN."


def _where(facts: Facts) -> str:
    """The test images that recall was measured on, if not on all."""
    compared, images = facts.maybe("backbone", "compared"), facts.value("ingest", "test_images")
    return f" in {count(compared)} of the test images" if compared and compared < images else ""


def _tuning(before: dict[str, Any], after: dict[str, Any], weights: str) -> str:
    """What fine-tuning did to the proposals."""
    first, last = before["recall"], after["recall"]
    known = [key for key in last if last[key] is not None and first.get(key) is not None]
    if not known:
        return "Proposal recall was not measured in this run."
    most, few = max(known, key=int), min(known, key=int)
    text = f"with {count(int(most))} proposals an image, recall at IoU 0.5 {change(first[most], last[most])}"
    if few != most:
        text += f"; with {count(int(few))}, where ranking decides, it {change(first[few], last[few])}"
    if weights in ("imagenet", "none"):
        return f"Here pyramid and RPN start from random numbers and must learn: {text}."
    if last[few] > first[few] + 0.1:
        return f"Here fine-tuning was essential: {text}."
    if last[few] > first[few]:
        return f"Here fine-tuning helped a little: {text}."
    return f"Here fine-tuning did not pay by this measure: {text}."


def _untuned(before: dict[str, Any]) -> str:
    recall = before["recall"]
    known = [key for key in recall if recall[key] is not None]
    text = "This run keeps the weights as they were loaded (backbone.epochs is 0)"
    if not known:
        return f"{text}."
    most = max(known, key=int)
    return f"{text}; {count(int(most))} proposals an image cover {percent(recall[most])} of the test objects."


def _separation(before: dict[str, Any], after: dict[str, Any]) -> str:
    """How far the mean objectness of positives and negatives lie apart, before and after."""
    values = [entry[f"objectness_{kind}"] for entry in (before, after) for kind in ("positive", "negative")]
    if any(value is None for value in values):
        return ""
    first, last = values[0] - values[1], values[2] - values[3]
    text = (
        f"The mean objectness of positive anchors {change(values[0], values[2], 'score')}, that of negative ones "
        f"{change(values[1], values[3], 'score')}"
    )
    verdict = "objects now stand out" if last > first else "the two are no further apart than before"
    return f"{text}: the distance between them {change(first, last, 'score')}, so {verdict}."


def _recall_table(before: dict[str, Any], after: dict[str, Any], compared: int | None) -> Table:
    keys = sorted(after["recall"], key=int)
    rows = [[count(int(key)), percent(before["recall"].get(key)), percent(after["recall"][key])] for key in keys]
    where = f", on at most {count(compared)} test images" if compared else ""
    return Table(("proposals an image", "before", "after"), rows, f"Objects covered with IoU at least 0.5{where}.")


def _cost(seconds: dict[str, float]) -> str:
    """What freezing the backbone saved, in this run's own seconds."""
    names = ("backbone", "features", "box_head", "mask_head")
    if not all(name in seconds for name in names):
        return "How long its stages took is not known for this run."
    backbone, features, box, mask = (duration(seconds[name]) for name in names)
    return (
        f"The fine-tuning took {backbone}, running backbone and RPN once over all images {features}, and the two "
        f"trainings of the heads on what was kept {box} and {mask}."
    )


def _parity(difference: float | None) -> str:
    if difference is None:
        return "It was not compared with torchvision's in this run."
    text = (
        f"Its largest difference from torchvision.ops.roi_align (sampling_ratio 2) in this run is {small(difference)}"
    )
    if difference <= 1e-4:
        return f"{text}: the same function up to the rounding of float32."
    return f"{text}, more than the 1e{MINUS}4 that rounding in float32 explains."


def _levels(levels: dict[str, float | None]) -> str:
    known = {name: share for name, share in levels.items() if share is not None}
    if not known:
        return "No box was pooled."
    most = max(known, key=lambda name: known[name])
    shares = ", ".join(f"{name} {percent(share)}" for name, share in known.items())
    lead = "More than half come" if is_above(known[most], 0.5) else "The largest part comes"
    return f"Boxes by level: {shares}. {lead} from {most}."


def _numbers(values: list[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"

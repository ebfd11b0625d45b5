"""Tasks 8 to 13: the pretrained backbone, its proposals, RoIAlign, two stages.

Task 8 stands in `fine_tuning`, 11 in `joint`, 13 in `detectors`.
"""

from __future__ import annotations

from typing import Any

from src.reporting.answers.answer import Answer, Picture, Table
from src.reporting.answers.detectors import candidates, shape_of, task_13
from src.reporting.answers.fine_tuning import task_8
from src.reporting.answers.joint import task_11
from src.reporting.formatting import MINUS, count, is_above, percent, plural, score, size, small
from src.reporting.loss_curves import was_trained
from src.reporting.run_results import RunResults

__all__ = ["task_8", "task_9", "task_10", "task_11", "task_12", "task_13"]

LEVELS = {
    "P2": "small objects; edges and texture at the finest resolution",
    "P3": "small to medium objects",
    "P4": "medium objects; parts and their arrangement",
    "P5": "large objects; the most context, the coarsest place",
    "pool": "P5 subsampled: the largest anchors of the RPN only, not used by the heads",
}


def task_9(results: RunResults) -> Answer:
    """The prepared image."""
    example = results.value("prepare", "example")
    number = len(example["labels"])
    words = {
        **_resizing(results),
        "canvas": size(results.value("prepare", "height"), results.value("prepare", "padded_width")),
        "left": plural(round(results.value("prepare", "left")), "column"),
        "right": count(results.value("prepare", "right")),
        "mean": _numbers(results.value("prepare", "mean")),
        "std": _numbers(results.value("prepare", "std")),
        "scale_x": score(results.value("prepare", "scale_x"), 4),
        "scale_y": score(results.value("prepare", "scale_y"), 4),
        "minimum": score(results.value("prepare", "minimum"), 2),
        "maximum": score(results.value("prepare", "maximum"), 2),
        "name": str(example["name"]),
        "fed": _fed(results.maybe("backbone", "normalization"), results),
        "number": "two objects" if number == 2 else f"{plural(number, 'object')} (no test image has two)",
    }
    figure = Picture(
        results.plot("prepare/two_objects.png"),
        "A test image after resizing, normalizing and padding, with masks, labels and boxes",
        "The prepared image, its normalized values clipped to [0, 1], with masks, labels and ground-truth boxes.",
    )
    return Answer(words, {"image": figure})


def _resizing(results: RunResults) -> dict[str, str]:
    """To what pictures are resized: all alike, or each by its own size, of which the example is one."""
    height, width = results.value("prepare", "height"), results.value("prepare", "width")
    if results.value("ingest", "source") != "coco":
        return {"content": f"to {size(height, width)}", "whose": "", "above": ""}
    frame = results.params.prepare
    top, bottom = (round(results.maybe("prepare", side) or 0) for side in ("top", "bottom"))
    above = f", {plural(top, 'row')} above and {count(bottom)} below" if top or bottom else ""
    content = f"as large as it fits into {size(frame.height, frame.width)}"
    return {"content": content, "whose": " of the example", "above": above}


def task_10(results: RunResults) -> Answer:
    """The backbone's outputs and the RPN's proposals."""
    outputs = results.value("backbone", "outputs")
    losses = results.value("backbone", "losses_in_train_mode")
    rows = [
        [
            str(output["name"]),
            size(*shape_of(output)),
            count(output["stride"]),
            count(output["anchor_size"]),
            LEVELS.get(str(output["name"]), ""),
        ]
        for output in outputs
    ]
    found = results.value("backbone", "proposals_on_example")
    most = results.params.proposals.post_nms_top_n
    words = {
        "backbone": str(results.value("backbone", "backbone")),
        "levels": count(len(outputs)),
        "channels": count(shape_of(outputs[0])[0]),
        "proposals": plural(found, "proposal"),
        "limit": "the limit" if found >= most else f"below the limit of {count(most)}, since the rest overlapped",
        "objectness": score(losses["objectness"]),
        "regression": score(losses["rpn_regression"]),
        "candidates": count(candidates(results)),
    }
    table = Table(
        ("output", "shape", "stride (px)", "anchor size (px)", "what it serves"),
        rows,
        "Outputs of the backbone for one image.",
    )
    figure = Picture(
        results.plot("evaluate_backbone/proposals.png"),
        "The image of task 9 with some of the proposals of the RPN",
        "Some of the proposals of the fine-tuned RPN on the image of task 9.",
    )
    return Answer(words, {"proposals": figure}, {"outputs": table})


def task_12(results: RunResults) -> Answer:
    """RoIAlign against torchvision's, and the levels that RoIs are pooled from."""
    difference = results.value("backbone", "roi_align", "largest_difference_from_torchvision")
    levels = results.value("features", "levels")
    stride = max(output["stride"] for output in results.value("backbone", "outputs"))
    words = {
        "pooled": size(*results.value("backbone", "roi_align", "pooled")),
        "cached": _cached(results),
        "parity": _parity(difference),
        "levels": _levels(levels) if results.value("features", "rois") else "",
        "half": count(min(stride, 32) / 2),
    }
    figure = Picture(
        results.plot("evaluate_backbone/crops.png"),
        "The image of task 9 and many of its regions, each warped to a square grid by RoIAlign",
        "The same image and many of its crops after RoIAlign.",
    )
    return Answer(words, {"crops": figure})


def _fed(normalization: dict[str, Any] | None, results: RunResults) -> str:
    """What part (b)'s backbone gets instead, where its weights expect another normalization."""
    if normalization is None or normalization["mean"] == results.value("prepare", "mean"):
        return ""
    mean, std = _numbers(normalization["mean"]), _numbers(normalization["std"])
    return f"The weights of this run's backbone expect mean {mean} and deviation {std}, so part (b) feeds it those."


def _parity(difference: float | None) -> str:
    if difference is None:
        return "It was not compared with torchvision's in this run."
    text = (
        f"Its largest difference from torchvision.ops.roi_align (sampling_ratio 2) in this run is {small(difference)}"
    )
    if difference <= 1e-4:
        return f"{text}: the same function up to the rounding of float32."
    return f"{text}, more than the 1e{MINUS}4 that rounding in float32 explains."


def _cached(results: RunResults) -> str:
    """How much was pooled once for the heads."""
    if was_trained(results, "box_head") or was_trained(results, "mask_head"):
        rois, images = results.value("features", "rois"), results.value("features", "images")
        return f"For the heads' own trainings {count(rois)} boxes of {count(images)} images were pooled once."
    if was_trained(results, "joint"):
        return "In this run no features were cached: the heads learn in joint training alone."
    return "In this run no features were cached: no training of the heads follows the fine-tuning."


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

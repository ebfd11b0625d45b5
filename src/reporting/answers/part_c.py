"""Tasks 14, 17 and 18: the box head, the detections, and one's own pictures. Task 15: `detection`; task 16: `masks`."""

from __future__ import annotations

import math
from typing import Any

from src.reporting.answers.answer import Answer, Picture
from src.reporting.answers.detection import task_15
from src.reporting.answers.losses import describe, history, loss_trend
from src.reporting.answers.masks import task_16
from src.reporting.formatting import count, is_above, plural, score
from src.reporting.loss_curves import was_trained
from src.reporting.run_results import RunResults

__all__ = ["task_14", "task_15", "task_16", "task_17", "task_18"]


def task_14(results: RunResults) -> Answer:
    """The box head's ground truth, sampling, and losses."""
    params, rois = results.params.box_head, results.params.rois
    share = rois.positive_fraction
    words = {
        "scores": plural(len(results.classes) + 1, "class score"),
        "hidden": count(params.representation_size),
        "inputs": count(math.prod(results.value("backbone", "roi_align", "pooled"))),
        "iou": f"{rois.fg_iou_thresh:g}",
        "rois": count(params.batch_size_per_image),
        "mixture": f"{(1 - share) / share:.3g} negatives to 1 positive" if share else "negatives only",
        "proposals": count(results.params.features.proposals),
    }
    started = was_trained(results, "backbone") and "classification" in results.table("backbone/train")
    words["start"] = "The head begins with the weights that the fine-tuning gave it (task 8)." if started else ""
    if not was_trained(results, "box_head"):
        learned = was_trained(results, "mask_head") or was_trained(results, "joint")
        alone = "it stays as it began" if started else "its classes and boxes are random"
        end = "its losses stand in task 16" if learned else alone
        text = f"In this run the box head has no training of its own (box_head.epochs: 0); {end}."
        return Answer({**words, "trends": text})
    trends = [
        f"The {kind} loss {describe(loss_trend(results, 'box_head', term))}"
        for kind, term in (("classification", "classification"), ("regression", "box_regression"))
    ]
    figure = history(results, "box_head", "Classification, regression and total loss")
    return Answer({**words, "trends": " ".join(trends)}, {"history": figure})


def task_17(results: RunResults) -> Answer:
    """Detections on images, and one that the ground truth lacks."""
    figures = {
        "detections": Picture(
            results.plot("evaluate/detections.png"),
            "Test images with predicted boxes, masks, classes and scores",
            "Predicted boxes and masks with the classifier's confidence, on fixed test images.",
        )
    }
    found = results.value("evaluate", "unannotated")
    if found is not None:
        figures["unannotated"] = Picture(
            results.plot("evaluate/unannotated.png"),
            f"Test image {found['image']} with an object that is detected but not annotated",
            f"{found['image']}: the detection of class {found['class']} has no counterpart in the ground truth.",
        )
    return Answer({"unannotated": _unannotated(found)}, figures)


def task_18(results: RunResults) -> Answer:
    """Every picture of the folder `pictures/`, with its detections."""
    gallery = [
        Picture(path, f"Detections on the picture {path.stem}", f"{path.stem}: boxes, masks, classes and scores.")
        for path in results.pictures("predict")
    ]
    if not gallery:
        text = "The folder pictures/ held no picture when this run was made."
    else:
        text = f"The folder pictures/ held {count(len(gallery))} {'picture' if len(gallery) == 1 else 'pictures'}."
    unreadable = results.value("predict", "unreadable")
    if unreadable:
        text += f" Not readable, and so left out: {', '.join(unreadable)}."
    return Answer({"number": text, "threshold": f"{results.params.predict.score_threshold:g}"}, gallery=gallery)


def _unannotated(found: dict[str, Any] | None) -> str:
    """Which object was found beyond the ground truth, with what probability, and whether it is one."""
    if found is None:
        return (
            "In this run no detection above the score threshold lies clear of every annotated object, so there is "
            "no such example to show. The share of unannotated objects is set by data.emoji.unannotated."
        )
    text = (
        f"In the test image {found['image']} the detector reports an object of class {found['class']} with "
        f"probability {score(found['probability'], 2)} where the ground truth has none."
    )
    overlap = found.get("iou_with_unlabeled")
    if found["known"]:
        fit = f", with which the detected box has an IoU of {score(overlap, 2)}" if overlap is not None else ""
        return (
            f"{text} It is right: the scene does contain an object there that the annotation leaves out on "
            f"purpose{fit}. The evaluation counts it as a false positive all the same."
        )
    sure = "confident" if is_above(found["probability"], 0.8) else "tentative"
    return (
        f"{text} The detection is {sure}; whether it is an object that the annotators passed over or a mistake of the "
        f"detector, no number can tell: look at the picture. The evaluation counts it as a false positive."
    )

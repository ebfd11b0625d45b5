"""Tasks 14 and 16 to 18: the heads' training, the detections, and one's own pictures. Task 15 is in `detection`."""

from __future__ import annotations

from typing import Any

from src.reporting.answers.answer import Answer, Picture, Table
from src.reporting.answers.detection import task_15
from src.reporting.answers.losses import LossTrend, describe, loss_trend
from src.reporting.formatting import count, is_above, listing, percent, score
from src.reporting.run_results import RunResults

__all__ = ["task_14", "task_15", "task_16", "task_17", "task_18"]


def task_14(results: RunResults) -> Answer:
    """The box head's ground truth, sampling, and losses."""
    params, rois = results.params.box_head, results.params.rois
    share = rois.positive_fraction
    words = {
        "hidden": count(params.representation_size),
        "inputs": count(_product(results.value("backbone", "roi_align", "pooled"))),
        "iou": f"{rois.fg_iou_thresh:g}",
        "rois": count(params.batch_size_per_image),
        "mixture": f"{(1 - share) / share:.3g} negatives to 1 positive" if share else "negatives only",
        "proposals": count(results.params.features.proposals),
        "classification": describe(loss_trend(results, "box_head", "classification")),
        "regression": describe(loss_trend(results, "box_head", "box_regression")),
    }
    return Answer(words, {"history": _history(results, "box_head", "Classification, regression and total loss")})


def task_16(results: RunResults) -> Answer:
    """Joint training, loss weights, and the masks' quality."""
    terms = {term: loss_trend(results, "mask_head", term) for term in ("classification", "box_regression", "mask")}
    lowest = results.params.evaluate.score_threshold
    words = {
        "mask": describe(terms["mask"]),
        "weights": _weights(terms),
        "speeds": _speeds(terms),
        "threshold": f"{results.params.evaluate.mask_threshold:g}",
        "iou": _mask_iou(results.value("evaluate", "mask_iou"), results.maybe("evaluate", "mask_iou_coverage"), lowest),
        "quality": _mask_quality(results.value("evaluate", "mask_ap50"), results.value("evaluate", "box_ap50")),
    }
    caption = "Classification, regression, mask and total loss"
    return Answer(words, {"history": _history(results, "mask_head", caption)}, {"losses": _losses_table(terms)})


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
    return Answer({"number": text, "threshold": f"{results.params.predict.score_threshold:g}"}, gallery=gallery)


def _history(results: RunResults, stage: str, shown: str) -> Picture:
    return Picture(
        results.charts / f"{stage}.png",
        f"{shown} over iterations",
        f"{shown}, over iterations. Faint: each iteration; bold: running mean; dashed: test images.",
    )


def _product(sides: list[int]) -> int:
    result = 1
    for side in sides:
        result *= side
    return result


def _spoken(term: str) -> str:
    """A loss term's name in prose."""
    return term.replace("_", " ")


def _losses_table(terms: dict[str, LossTrend]) -> Table:
    rows = [
        [_spoken(name), f"{term.weight:.3g}", *map(score, (term.first, term.highest, term.last, term.test))]
        for name, term in terms.items()
    ]
    head = ("loss", "weight", "first", "highest", "last", "last on test images")
    return Table(head, rows, "The three losses of joint training, unweighted.")


def _weights(terms: dict[str, LossTrend]) -> str:
    """The weights in use, read off the history (weighted over raw)."""
    values = {_spoken(name): term.weight for name, term in terms.items()}
    if max(values.values()) - min(values.values()) < 1e-3:
        return "The three losses have equal weights in this run."
    return f"The weights in this run are {listing([f'{value:.3g} for {name}' for name, value in values.items()])}."


def _speeds(terms: dict[str, LossTrend]) -> str:
    """Which loss converged how far, and what that suggests for the weights."""
    parts = [f"{_spoken(name)} ended at {percent(term.left)}" for name, term in terms.items()]
    text = f"Of what each loss began with, {listing(parts)}.{_rises(terms)}"
    slowest = max(terms, key=lambda name: terms[name].left)
    if terms[slowest].left > 1:
        return f"{text} The loss of {_spoken(slowest)} grew: its weight deserves a second look."
    if slowest == "mask":
        return f"{text} The mask loss moved least: more epochs, or a higher learning rate, are the next experiment."
    return (
        f"{text} That {_spoken(slowest)} moved least is as it should be: the box head comes trained from task 14, "
        f"only the mask branch starts from nothing."
    )


def _rises(terms: dict[str, LossTrend]) -> str:
    """Which losses rose well above their beginning before they came to their end."""
    rose = [f"{_spoken(name)} rose to {score(term.highest)}" for name, term in terms.items() if term.rose]
    return f" Before that, {listing(rose)}: the learning rate climbs anew in this second training." if rose else ""


def _mask_iou(mean: float | None, coverage: float | None, lowest: float) -> str:
    if mean is None:
        return "No object was matched by a detection, so there is no mask IoU."
    text = f"The mean IoU of masks with the objects that their boxes match is {score(mean)}"
    if coverage is None:
        return f"{text}."
    return f"{text}; {percent(coverage)} of the objects are matched by a detection scored at least {lowest:g}."


def _mask_quality(mask: float | None, box: float | None) -> str:
    """Mask AP50 beside box AP50: what is lost between the box and the mask."""
    if mask is None or box is None:
        return "Mask AP is undefined for this test split."
    text = f"At IoU 0.5 the masks reach an AP of {score(mask)}, the boxes {score(box)}"
    if mask >= box - 0.02:
        return f"{text}: hardly a box that is right carries a mask that is wrong."
    if mask >= box - 0.1:
        return f"{text}: a few boxes that are right carry masks that are not, mostly of thin or cluttered shapes."
    return f"{text}: many boxes that are right carry poor masks, so the mask branch is the weak link."


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

"""Task 15: post-processing, the classifier's numbers, the regressor before and after, and boxes cut in half."""

from __future__ import annotations

from typing import Any, Final

from src.reporting.answers.answer import Answer, Picture, Table
from src.reporting.formatting import ABSENT, TIMES, change, count, listing, percent, plural, score
from src.reporting.origin import fill
from src.reporting.run_results import RunResults
from src.structures.classes import BACKGROUND_NAME

MOST_COLUMNS: Final = 13  # of a table of all confusions; of more classes it has the commonest ones
MISTAKES: Final = 20
KINDS = {
    "correct": "right class, IoU at least 0.5, first to find its object",
    "duplicate": "an object that a more confident detection has already found",
    "classification": "right place, wrong class",
    "localization": "right class, IoU between 0.1 and 0.5",
    "both": "wrong class and IoU between 0.1 and 0.5",
    "background": "nothing there",
    "missed": "objects without a correct detection, and without a mistake of class or of place about them",
}
STEPS = {
    "no_anchor": "no proposal covers it, and no anchor does",
    "no_proposal": "an anchor covers it, but none of the proposals that are kept",
    "background": "its proposals are all called background",
    "other_class": "its proposals are called background or another class",
    "box": "the regressor leaves no box of its class on it",
    "border": "its boxes cross the border and are removed",
    "suppressed": "its boxes are suppressed for others, beyond the most confident ones, or taken for its neighbor's",
    "score": "its boxes are scored below the threshold",
    "mask": "its box is found, but the mask does not fit",
}


def task_15(results: RunResults) -> Answer:
    """Post-processing as specified, classifier metrics, boxes before and after, the halves."""
    params, classifier = results.params.evaluate, results.value("evaluate", "classifier")
    halves, names = results.value("evaluate", "halves"), list(classifier["by_class"])
    words = {
        "nms": f"{params.nms_iou:g}",
        "classes": "over all classes at once" if params.class_agnostic_nms else "class by class",
        "most": count(params.detections_per_image),
        "threshold": f"{params.score_threshold:g}",
        "border": _border(results.value("evaluate", "border"), params.border),
        "accuracy": percent(classifier["accuracy"]),
        "macro_precision": percent(classifier["macro_precision"]),
        "macro_recall": percent(classifier["macro_recall"]),
        "confusion": _confusions(classifier["confusion"], names),
        "regressor": _regressor(results.value("evaluate", "regressor")),
        "halves": _halves(halves),
        "sides": _sides(halves.get("after_by_side")),
        "lost": _lost(results.value("evaluate", "funnel"), results.params.predict.score_threshold),
        "trained": _trained(results.params.rois.fg_iou_thresh),
    }
    tables = {
        "classifier": _classifier_table(classifier),
        "confusion": _confusion_table(classifier["confusion"], names),
        "sizes": _sizes_table(results),
    }
    tables["errors"] = _errors_table(results.value("evaluate", "errors"), results.params.predict.score_threshold)
    tables["lost"] = _lost_table(results.value("evaluate", "funnel"))
    return Answer(words, _figures(results), tables)


def _figures(results: RunResults) -> dict[str, Picture]:
    return {
        "confusion": Picture(
            results.plot("evaluate/confusion.png"),
            "Confusion matrix of the classifier over test regions",
            "Confusion matrix over test regions, background included: rows the truth, columns the prediction.",
        ),
        "funnel": Picture(
            results.plot("evaluate/funnel.png"),
            "How many test objects are left after each step of the detector, and how many each step loses",
            "Test objects that are left after each step, and those that it loses.",
        ),
        "refined": Picture(
            results.plot("evaluate/before_after.png"),
            "Proposals of the RPN and the boxes that the regressor makes of them on test images",
            "Each proposal of the RPN, and the box that the regressor makes of it.",
        ),
        "halves": Picture(
            results.plot("evaluate/halves.png"),
            "Distribution of the IoU of halved boxes with their objects before and after the regressor",
            "Ground-truth boxes cut in half: IoU with the whole object before and after the regressor.",
        ),
    }


def _border(border: dict[str, Any], rule: str) -> str:
    """What the assignment's rule for boxes that cross the border costs, beside clipping them."""
    remove, clip = border["remove"]["box_ap50"], border["clip"]["box_ap50"]
    used = "removes such boxes" if rule == "remove" else "clips them to the picture"
    if remove is None or clip is None:
        return f"This run {used}."
    text = "Removing boxes that cross the border gives a box AP50 of {}, clipping them {}: {}. This run {}."
    if clip - remove > 0.01:
        why = "objects cut by the border lose their detection by the rule"
    elif remove - clip > 0.01:
        why = "boxes at the border are more often wrong than right here"
    else:
        why = "the rule hardly matters here"
    return fill(text, score(remove), score(clip), why, used)


def _confusions(confusion: list[list[int]], names: list[str]) -> str:
    """The commonest mistake between truth and prediction."""
    cells = [(confusion[i][j], i, j) for i in range(len(confusion)) for j in range(len(confusion)) if i != j]
    number, truth, predicted = max(cells, key=lambda cell: cell[0])
    if not number:
        return "It makes no mistake on these regions."
    between = sum(confusion[i][j] for _, i, j in cells if i and j)
    text = f"Its commonest mistake is to call {names[truth]} {names[predicted]} ({plural(number, 'region')})"
    background = sum(cell[0] for cell in cells) - between
    if len(names) == 2:
        return f"{text}. With one class there is no other to take an object for."
    if background > between:
        return (
            f"{text}. Object against background causes {count(background)} mistakes, one object class for another "
            f"{count(between)}: where an object ends is harder to say here than what it is."
        )
    return (
        f"{text}. One object class for another causes {count(between)} mistakes, object against background "
        f"{count(background)}: what an object is proves harder here than whether it is one."
    )


def _regressor(regressor: dict[str, float | None]) -> str:
    before, after = regressor["iou_before"], regressor["iou_after"]
    if before is None or after is None:
        return "No test proposal overlaps an object enough to measure the regressor."
    verdict = "The boxes do get tighter." if after > before else "On these images the regressor does not tighten boxes."
    return fill("By the regressor the mean IoU with the object {}. {}", change(before, after, "score"), verdict)


def _halves(halves: dict[str, Any]) -> str:
    """The experiment's verdict."""
    before, after = halves["before"], halves["after"]
    shares = halves["share_above_0.5_before"], halves["share_above_0.5_after"]
    if before is None or after is None:
        return "There are no boxes to cut in this run, so the question stays open."
    text = "The mean IoU with the whole object {}, and the share of boxes above 0.5 {}."
    said = "No. {} The regressor even makes such boxes worse: it fits them to the part that it was shown."
    if after - before > -0.03:
        said = "Hardly. {} The boxes stay about where they were cut."
    if after - before > 0.03:
        said = "A little. {} The boxes grow towards the missing half, but rarely far enough to fit the object."
    if after - before > 0.15:
        said = "To a good part it can. {} The regressor does reach for the half that it was not shown."
    return fill(said, fill(text, change(before, after, "score"), change(*shares)))


def _sides(by_side: dict[str, float | None] | None) -> str:
    known = {side: value for side, value in (by_side or {}).items() if value is not None}
    if not known:
        return ""
    parts = listing([fill("{} from the {} half", score(value), side) for side, value in known.items()])
    return fill("By the half that was left, the mean IoU afterwards is {}.", parts)


def _trained(foreground: float) -> str:
    """Whether training has shown the regressor boxes as short as a half."""
    if foreground >= 0.5:
        return (
            f"the regressor learns from proposals with an IoU above {foreground:g} only, and a clean half has exactly "
            f"0.5. It has never been asked to double a box, and must extrapolate from milder cuts"
        )
    return f"with proposals from an IoU of {foreground:g} on, training does include boxes as short as a half"


def _lost(funnel: dict[str, Any], threshold: float) -> str:
    """Which steps lost the objects that were missed."""
    objects, missed, steps = funnel["objects"], funnel["missed"], funnel["lost_at"]
    if not objects:
        return "The test split has no objects to lose."
    text = (
        f"Of {plural(objects, 'object')}, {count(objects - missed)} are found: a detection of the right class scored "
        f"at least {threshold:g} fits them with box and mask, both at IoU 0.5."
    )
    if not missed:
        return text
    worst = max(steps, key=lambda step: steps[step])
    first, second = steps["no_anchor"] + steps["no_proposal"], steps["background"] + steps["other_class"]
    return (
        f"{text} Each of the others is lost at the first step that leaves nothing of it; proposals lose "
        f"{count(first)}, the classifier {count(second)}, what follows {count(missed - first - second)}. The most, "
        f"{count(steps[worst])}, are lost because {STEPS[worst].replace('its ', 'their ').replace('it ', 'them ')}."
    )


def _lost_table(funnel: dict[str, Any]) -> Table:
    rows = [[step.replace("_", " "), count(funnel["lost_at"][step]), meaning] for step, meaning in STEPS.items()]
    return Table(("step", "objects lost", "meaning"), rows, "Missed objects by the step that lost them.")


def _classifier_table(classifier: dict[str, Any]) -> Table:
    rows = []
    for name, entry in classifier["by_class"].items():
        rows.append([name, percent(entry["precision"]), percent(entry["recall"]), count(entry["support"])])
    means = [percent(classifier["macro_precision"]), percent(classifier["macro_recall"])]
    objects = sum(entry["support"] for name, entry in classifier["by_class"].items() if name != BACKGROUND_NAME)
    rows.append(["mean of the objects", *means, count(objects)])
    return Table(("class", "precision", "recall", "regions"), rows, "The classifier on regions of the test images.")


def _confusion_table(confusion: list[list[int]], names: list[str]) -> Table:
    if len(names) > MOST_COLUMNS:
        return _mistakes_table(confusion, names)
    rows = [[f"true {name}", *(count(cell) for cell in row)] for name, row in zip(names, confusion, strict=True)]
    return Table(("", *(f"called {name}" for name in names)), rows, "Regions by true and predicted class.")


def _mistakes_table(confusion: list[list[int]], names: list[str]) -> Table:
    """The commonest mistakes, of classes too many for a matrix that can be read."""
    cells = [
        (number, true, called)
        for true, row in zip(names, confusion, strict=True)
        for called, number in zip(names, row, strict=True)
        if number and true != called
    ]
    most = sorted(cells, key=lambda cell: -cell[0])[:MISTAKES]
    rows = [[f"true {true}", f"called {called}", count(number)] for number, true, called in most]
    return Table(("", "", "regions"), rows, f"The commonest mistakes, {count(len(rows))} of {count(len(cells))}.")


def _sizes_table(results: RunResults) -> Table:
    """AP by the objects' size, and average recall, as COCO reports them; n/a where a size has no object."""
    keys = ("ap", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10", "ar_100")
    rows = []
    for kind, name in (("box", "boxes"), ("mask", "masks")):
        values = [results.value("evaluate", f"{kind}_{key}") for key in keys]
        rows.append([name, *(ABSENT if value is None else score(value) for value in values)])
    caption = (
        "AP over IoU 0.50 to 0.95 by the area of an object\u2019s mask in its image\u2019s own pixels (small: below 32 "
        f"{TIMES} 32; large: above 96 {TIMES} 96), and the recall of the best 1, 10 and 100 detections of an image."
    )
    return Table(("", "AP", "small", "medium", "large", "AR 1", "AR 10", "AR 100"), rows, caption)


def _errors_table(errors: dict[str, int | None], threshold: float) -> Table:
    rows = [[kind, count(errors[kind]), meaning] for kind, meaning in KINDS.items() if kind in errors]
    return Table(
        ("detections", "number", "meaning"), rows, f"Detections scored at least {threshold:g}, by kind of mistake."
    )

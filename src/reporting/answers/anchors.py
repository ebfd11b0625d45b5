"""Task 2: what the histograms of scale and aspect ratio say, and what the anchors they give will do."""

from __future__ import annotations

from typing import Any

from src.figures.classes import MOST_DRAWN
from src.reporting.answers.answer import Answer, Picture, Table
from src.reporting.formatting import count, few, listing, percent, score, size
from src.reporting.origin import fill
from src.reporting.run_results import RunResults


def task_2(results: RunResults) -> Answer:
    """Histograms, modes, anchors, their best IoUs, and the observations."""
    median, mode = results.value("anchors", "scale_median"), results.value("anchors", "scale_mode")
    anchors = results.value("anchors", "anchors")
    reached = results.value("anchors", "best_anchor_iou")
    words = {
        "objects": count(results.value("anchors", "objects")),
        "scale_mode": score(mode, 0),
        "ratio_mode": score(results.value("anchors", "ratio_mode"), 2),
        "anchors": f"{'anchor' if len(anchors) == 1 else 'anchors'} {listing([size(*sides) for sides in anchors])}",
        "tail": _tail(median, mode),
        "classes": _classes(results.value("anchors", "by_class")),
        "best_anchor_iou": _best_anchor_iou(reached),
        "worst": _worst_class(reached.get("by_class", {})),
        "larger": percent(results.value("anchors", "larger_than_anchor")),
        "fpn": _fpn(reached, results.value("anchors", "best_anchor_iou_fpn")),
    }
    figures = {
        "histograms": Picture(
            results.plot("anchors/histograms.png"),
            "Histograms of box scale and of the logarithm of the aspect ratio, overall and by class",
            "Scale is the square root of a box's area in canvas pixels; the ratio is height over width, by logarithm."
            + _drawn(len(results.classes)),
        ),
        "best_anchor_iou": Picture(
            results.plot("anchors/best_anchor_iou.png"),
            "Distribution of the best IoU of each ground-truth box with any anchor",
            "Coverage: the best IoU that each ground-truth box reaches with any anchor.",
        ),
    }
    return Answer(words, figures, {"classes": _table(results)})


def _drawn(classes: int) -> str:
    """Which classes the figure has, where it has not all."""
    most = f" Drawn are the {MOST_DRAWN} of {count(classes)} classes with the most objects."
    return most if classes > MOST_DRAWN else ""


def _tail(median: float | None, mode: float | None) -> str:
    """How mode and median of scale lie, and what a single anchor makes of it."""
    if median is None or mode is None:
        return "There are no objects to describe."
    if median > 1.1 * mode:
        return (
            f"The median scale, {median:.0f} pixels, lies well above the mode: the histogram has a long tail of large "
            f"objects, and a single anchor at the mode is too small for most of them."
        )
    if median < 0.9 * mode:
        return (
            f"The median scale, {median:.0f} pixels, lies well below the mode: most objects are smaller than the most "
            f"frequent size, and a single anchor at the mode is too large for them."
        )
    return (
        f"The median scale, {median:.0f} pixels, lies close to the mode, so the anchor stands in the middle of the "
        f"sizes; how well it serves depends on how far they spread."
    )


def _classes(by_class: dict[str, dict[str, Any]]) -> str:
    """Which class stands out by ratio, which by scale."""
    ratios = {name: entry["ratio_mode"] for name, entry in by_class.items() if entry.get("ratio_mode") is not None}
    scales = {name: entry["scale_mode"] for name, entry in by_class.items() if entry.get("scale_mode") is not None}
    if len(ratios) < 2 or len(scales) < 2:
        return "There are too few classes with objects to compare them."
    tall, wide = max(ratios.values()), min(ratios.values())
    large, little = max(scales.values()), min(scales.values())
    shape = "All classes share one mode of the aspect ratio"
    if tall > wide:
        shape = (
            f"The tallest shapes are those of {_with(tall, ratios)} (ratio mode {tall:.2f}), the widest those of "
            f"{_with(wide, ratios)} ({wide:.2f}), and one anchor cannot fit both"
        )
    extent = "the mode of scale is the same too"
    if large > little:
        extent = (
            f"the mode of scale is smallest for {_with(little, scales)} ({little:.0f} px) and largest for "
            f"{_with(large, scales)} ({large:.0f} px)"
        )
    return f"{shape}; {extent}."


def _with(mode: float, modes: dict[str, float]) -> str:
    """The classes that have this mode."""
    return few([name for name, value in modes.items() if value == mode])


def _best_anchor_iou(reached: dict[str, float | None]) -> str:
    """Share of boxes that an anchor reaches, and what follows for the labels."""
    high, half, mean = reached["above_0.7"], reached["above_0.5"], reached["mean"]
    if high is None:
        return "Without boxes there is no best anchor."
    said = "Most objects get several well-fitting positives, and the regressor has small corrections to learn."
    if high < 0.6:
        said = (
            "Objects near the mode get several positives by rule (2); all others depend on the one that rule (1) gives "
            "them, so frequent sizes are trained more than rare ones."
        )
    if high < 0.25:
        said = (
            "So rule (2) of task 3 hardly ever applies: most objects own only the one anchor of highest IoU that rule "
            "(1) gives them, positives are few and of poor fit, and the regressor has far to go from them."
        )
    text = "The best anchor reaches a mean IoU of {}; it exceeds 0.5 for {} of the boxes and 0.7 for {}. {}"
    return fill(text, score(mean), percent(half), percent(high), said)


def _worst_class(by_class: dict[str, dict[str, float | None]]) -> str:
    means = {name: entry["mean"] for name, entry in by_class.items() if entry.get("mean") is not None}
    if len(means) < 2:
        return ""
    worst, best = min(means, key=lambda name: means[name] or 0), max(means, key=lambda name: means[name] or 0)
    text = "Class {} is covered best (mean {}), {} worst ({})."
    return fill(text, best, score(means[best]), worst, score(means[worst]))


def _fpn(single: dict[str, float | None], pyramid: dict[str, float | None]) -> str:
    """The same measure for the fifteen anchors of part (b)."""
    if single["above_0.5"] is None or pyramid["above_0.5"] is None:
        return ""
    verdict = "which is why part (b) places them" if pyramid["above_0.5"] > single["above_0.5"] else "no gain here"
    text = (
        "Five sizes of three ratios each on the levels of a feature pyramid bring a mean of {}, with {} above 0.5 and "
        "{} above 0.7: {}."
    )
    return fill(text, score(pyramid["mean"]), percent(pyramid["above_0.5"]), percent(pyramid["above_0.7"]), verdict)


def _table(results: RunResults) -> Table:
    by_class = results.value("anchors", "by_class")
    reached = results.value("anchors", "best_anchor_iou")
    rows = [_row("all", results.value("anchors"), reached)]
    for name, entry in by_class.items():
        of_class = reached.get("by_class", {}).get(name, {})
        rows.append(_row(name, entry, of_class))
    head = ("class", "objects", "mode of scale (px)", "mode of height / width", "mean best IoU", "above 0.5")
    return Table(head, rows, "Modes of the histograms on the training split, and what the anchors cover.")


def _row(name: str, entry: dict[str, Any], reached: dict[str, Any]) -> list[str]:
    modes = [score(entry["scale_mode"], 0), score(entry["ratio_mode"], 2)]
    return [name, count(entry["objects"]), *modes, score(reached.get("mean")), percent(reached.get("above_0.5"))]

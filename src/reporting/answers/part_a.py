"""Tasks 1 to 7: the region proposal network of part (a)."""

from __future__ import annotations

from typing import Any

from src.reporting.answers.anchors import task_2
from src.reporting.answers.answer import Answer, Picture, Table
from src.reporting.answers.losses import describe, loss_trend
from src.reporting.formatting import TIMES, change, count, is_above, percent, plural, score, size
from src.reporting.origin import fill
from src.reporting.run_results import RunResults

__all__ = ["task_1", "task_2", "task_3", "task_4", "task_5", "task_6", "task_7"]


def task_1(results: RunResults) -> Answer:
    """The table of layers with the shape after each."""
    layers = results.value("rpn", "layers")
    rows = [_layer_row(layer) for layer in layers]
    head = ("layer", "kernel", "stride", "output (channels, rows, columns)", "parameters", "sees (px)")
    table = Table(head, rows, "The network of part (a), and the shape after each layer for one image.")
    backbone = [layer for layer in layers if str(layer["layer"]).startswith("backbone")] or layers
    grid = backbone[-1]["output"]
    height, width = results.value("prepare", "height"), results.value("prepare", "padded_width")
    words = {
        "canvas": size(height, width),
        "grid": size(*grid[-2:]),
        "channels": count(grid[0]),
        "locations": count(grid[-2] * grid[-1]),
        "stride": count(height / grid[-2]),
        "parameters": count(results.value("rpn", "parameters")),
    }
    return Answer(words, tables={"layers": table})


def task_3(results: RunResults) -> Answer:
    """The ground truth of the RPN, drawn, and how rare a positive is."""
    positive, negative = results.value("rpn", "labeled_positive"), results.value("rpn", "labeled_negative")
    figure = Picture(
        results.plot("evaluate_rpn/ground_truth.png"),
        "Test images with their ground-truth boxes and the anchors labeled positive and negative",
        "Ground-truth boxes, all anchors that the rules label positive, and some that they label negative.",
    )
    rarity = f"no anchor of the {count(negative)} labeled ones is positive"
    if positive:
        rarity = f"one positive stands against {count(negative / positive)} negatives"
    words = {
        "fg_iou_thresh": f"{results.params.rpn.fg_iou_thresh:g}",
        "bg_iou_thresh": f"{results.params.rpn.bg_iou_thresh:g}",
        "samples": count(results.params.rpn.batch_size_per_image),
        "positive": count(positive),
        "negative": count(negative),
        "rarity": rarity,
    }
    counts = results.maybe("rpn", "anchor_counts")
    tables = {"counts": _counts_table(counts)} if isinstance(counts, dict) else {}
    return Answer(words, {"truth": figure}, tables)


def task_4(results: RunResults) -> Answer:
    """The proposal classifier's loss."""
    return Answer({"loss": describe(loss_trend(results, "rpn", "objectness"))}, {"history": rpn_history(results)})


def task_5(results: RunResults) -> Answer:
    """The receptive field against the sizes of the objects and of the anchor."""
    field, larger = results.value("rpn", "receptive_field"), results.value("rpn", "boxes_larger_than_field")
    measured = results.value("rpn", "receptive_field_measured")
    sides = measured if isinstance(measured, list) else [measured, measured]
    agrees = all(side == field for side in sides)
    scale = results.value("prepare", "scale_y")
    figure = Picture(
        results.plot("evaluate_rpn/receptive_field.png"),
        "Size of the gradient of one intermediate neuron at each pixel of the input",
        "Which pixels one neuron of the intermediate layer sees: the gradient of its output with respect to the input.",
    )
    words = {
        "field": f"{size(field, field)}",
        "original": size(field / scale, field / scale),
        "measured": f"{'confirms' if agrees else 'finds'} {size(*sides)}",
        "enough": _enough(larger),
        "anchors": _field_and_anchors(results.value("anchors", "anchors"), field),
        "median": _median_and_field(results.value("anchors", "scale_median"), field),
    }
    return Answer(words, {"field": figure})


def task_6(results: RunResults) -> Answer:
    """The proposal regressor's loss."""
    return Answer({"loss": describe(loss_trend(results, "rpn", "rpn_regression"))})


def task_7(results: RunResults) -> Answer:
    """Equal weights, test accuracy of classifier and regressor, proposals."""
    objectness, regression = loss_trend(results, "rpn", "objectness"), loss_trend(results, "rpn", "rpn_regression")
    weights = (objectness.weight, regression.weight)
    equal = abs(weights[0] - weights[1]) < 1e-3 * max(weights)
    words = {
        "weights": "equal" if equal else f"not equal in this run: {weights[0]:.3g} and {weights[1]:.3g}",
        "total": describe(loss_trend(results, "rpn", "total")),
        "accuracy": percent(results.value("rpn", "balanced_accuracy")),
        "sides": _sides(results.value("rpn", "accuracy_positive"), results.value("rpn", "accuracy_negative")),
        "natural": percent(results.value("rpn", "accuracy")),
        "regressor": _regressor(results),
        "recall": _recall_sentence(results.maybe("rpn", "recall")),
    }
    figures = {
        "proposals": Picture(
            results.plot("evaluate_rpn/proposals.png"),
            "Test images with positive and negative region proposals in two colors",
            "Positive and some negative region proposals on fixed test images.",
        ),
        "recall": Picture(
            results.charts / "rpn_recall.png",
            "Recall at IoU 0.5 against the number of proposals kept",
            "Share of the test objects that the best proposals of an image cover with an IoU of at least 0.5.",
        ),
    }
    return Answer(words, figures, {"accuracy": _accuracy_table(results)})


def rpn_history(results: RunResults) -> Picture:
    """The three loss curves of part (a)."""
    return Picture(
        results.charts / "rpn.png",
        "Objectness, regression and total loss over iterations, training and test",
        "Losses of part (a) over iterations. Faint: each iteration; bold: running mean; dashed: test images.",
    )


def _layer_row(layer: dict[str, Any]) -> list[str]:
    output, field = layer["output"], layer["receptive_field"]
    name = str(layer["layer"]).removeprefix("backbone.")
    shape = size(*output) if isinstance(output, list) else str(output)
    cells = [count(layer["kernel"]), count(layer["stride"]), shape, count(layer["parameters"]), count(field)]
    return [name, fill(f"{{}} {TIMES} {{}}", cells[0], cells[0]), *cells[1:]]


def _counts_table(counts: dict[str, Any]) -> Table:
    """Means over test images, so most are no whole numbers."""
    known = {name: number for name, number in counts.items() if isinstance(number, int | float)}
    rows = [[name, score(number, 1) if number < 100 else count(number)] for name, number in known.items()]
    return Table(("anchors", "an image"), rows, "Anchors of a test image by what the rules make of them, on average.")


def _enough(larger: float | None) -> str:
    """Whether the field suffices to locate the objects of this run."""
    if larger is None:
        return "There are no boxes to compare it with."
    share = f"{percent(larger)} of the test objects have a side longer than the field"
    if larger > 0.5:
        return (
            f"No: {share}. A neuron at the center of such an object does not see where it ends, and has to guess the "
            f"extent from texture, from parts, and from how large such things usually are."
        )
    if larger > 0.1:
        return f"For most objects, not for all: {share}, and of those a neuron never sees both ends at once."
    return f"Yes, for nearly all: only {share}; of the rest a central neuron has every edge in view."


def _field_and_anchors(anchors: list[list[float]], field: int) -> str:
    """What the anchor asks of a neuron with that field."""
    largest = max(anchors, key=lambda sides: sides[0] * sides[1])
    name = "The anchor" if len(anchors) == 1 else "The largest anchor"
    text = f"{name} of {size(*largest)} pixels (width {TIMES} height)"
    if max(largest) > field:
        return (
            f"{text} is itself larger than the field. The neuron must say whether its anchor overlaps an object by "
            f"0.7, and for the anchor's outer part it has no evidence: two images that differ only there get the same "
            f"score but may carry different labels. This is label noise that no training removes."
        )
    return (
        f"{text} fits into the field, so a neuron sees all of the region that its label is about, with a margin of "
        f"{(field - max(largest)) / 2:.0f} pixels of context on the tighter side."
    )


def _median_and_field(median: float | None, field: int) -> str:
    if median is None:
        return ""
    relation = "more than the field" if median > field else "less than the field"
    return f"The median object measures {median:.0f} pixels (square root of its area), {relation}."


def _sides(positive: float | None, negative: float | None) -> str:
    """Which kind of anchor is harder, and why."""
    if positive is None or negative is None:
        return "One of the two kinds does not occur among the labeled test anchors."
    said = "negatives are harder; 1:1 sampling makes the network generous, and clutter passes for objects"
    if negative > positive:
        said = "positives are harder, since they vary with the object while most negatives are plain ground"
    if abs(positive - negative) < 0.03:
        said = "the two kinds are equally hard, as one expects of sampling 1:1"
    text = "{} of the positive and {} of the negative anchors are right: {}."
    return fill(text, percent(positive), percent(negative), said)


def _regressor(results: RunResults) -> str:
    before, after = results.value("rpn", "anchor_iou"), results.value("rpn", "regression_iou")
    if before is None or after is None:
        return "No test anchor is positive, so the regressor cannot be measured."
    verdict = "it moves boxes towards their objects" if after > before else "it does not help on these images"
    loss = score(results.value("rpn", "smooth_l1"))
    text = (
        "Over the positive test anchors the mean IoU with the object {} by decoding the regressor's deltas: {}. The "
        "smooth L1 loss there, summed over the four deltas, is {}."
    )
    return fill(text, change(before, after, "score"), verdict, loss)


def _recall_sentence(recall: dict[str, float | None] | None) -> str:
    known = {int(key): value for key, value in (recall or {}).items() if value is not None}
    if not known:
        return "This run did not measure proposal recall."
    few, many = min(known), max(known)
    text = "With {} an image {} of the test objects are covered at IoU 0.5"
    covered = fill(text, plural(few, "proposal"), percent(known[few]))
    if many == few:
        return fill("{}.", covered)
    said = "What it never covers, no later stage could find: part (b)'s pyramid has to do better."
    if is_above(known[many], 0.9):
        said = "What the list as a whole contains is good; the distance between the two is a matter of ranking."
    return fill("{}, with {} it is {}. {}", covered, count(many), percent(known[many]), said)


def _accuracy_table(results: RunResults) -> Table:
    entries = (
        ("balanced accuracy, both kinds 1:1", percent(results.value("rpn", "balanced_accuracy"))),
        ("accuracy on positives", percent(results.value("rpn", "accuracy_positive"))),
        ("accuracy on negatives", percent(results.value("rpn", "accuracy_negative"))),
        ("accuracy over all labeled anchors", percent(results.value("rpn", "accuracy"))),
        ("mean IoU of the anchors", score(results.value("rpn", "anchor_iou"))),
        ("mean IoU of the decoded boxes", score(results.value("rpn", "regression_iou"))),
        ("smooth L1 per positive", score(results.value("rpn", "smooth_l1"))),
    )
    recall = results.maybe("rpn", "recall") or {}
    rows = [*entries, *((f"recall at {k} proposals", percent(value)) for k, value in recall.items())]
    return Table(
        ("on the test split", "value"), rows, "Classifier, regressor and proposals of part (a), point by point."
    )

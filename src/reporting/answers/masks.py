"""Task 16: the mask branch, its training beside the others, and what loss weights do where losses meet."""

from __future__ import annotations

from typing import Final

from src.figures.base import term_name
from src.reporting.answers.answer import Answer, Picture, Table
from src.reporting.answers.losses import LossTrend, describe, history, loss_trend
from src.reporting.answers.studies import with_study
from src.reporting.formatting import listing, percent, score, sentence
from src.reporting.loss_curves import ALL_LOSSES, HISTORIES, has_gradients, was_trained
from src.reporting.origin import fill
from src.reporting.run_results import RunResults

TITLES: Final = {
    "mask_head": "The heads on cached features: classification, regression, mask and total loss",
    "joint": "All parts together: the five losses and their weighted total",
}
MASK_LOSS: Final = {"mask_head": "The mask loss", "joint": "In the training of all parts the mask loss"}
ORDERS: Final = {  # by the trainings that the mask branch had
    ("mask_head", "joint"): "The branch first learns beside the box head on cached features, where it shares no layer "
    "with it; then all parts learn together (task 11).",
    ("mask_head",): "In this run the branch learns beside the box head on cached features, where it shares no layer "
    "with it, and nowhere else (joint.scheme: none).",
    ("joint",): "In this run the branch learns together with all other parts (task 11), and not on cached features "
    "before (mask_head.epochs: 0).",
    (): "In this run the branch is not trained (mask_head.epochs: 0, joint.scheme: none), so its masks are random.",
}
EVEN: Final = 1.5  # the largest share of the gradient, up to this many times the smallest, counts as even


def task_16(results: RunResults) -> Answer:
    """Joint training, loss weights, and the masks' quality."""
    trained = [stage for stage in ("mask_head", "joint") if was_trained(results, stage)]
    last = trained[-1] if trained else ""
    terms = {term: loss_trend(results, last, term) for term in HISTORIES[last][0]} if last else {}
    lowest = results.params.evaluate.score_threshold
    words = {
        "order": ORDERS[tuple(trained)],
        "mask": f"{MASK_LOSS[last]} {describe(terms['mask'])}" if terms else "",
        "weights": _weights(terms),
        "speeds": _speeds(terms),
        "pull": _pull(results) if has_gradients(results) else "",
        "threshold": f"{results.params.evaluate.mask_threshold:g}",
        "iou": _mask_iou(results.value("evaluate", "mask_iou"), results.maybe("evaluate", "mask_iou_coverage"), lowest),
        "quality": _mask_quality(results.value("evaluate", "mask_ap50"), results.value("evaluate", "box_ap50")),
    }
    figures = {stage: history(results, stage, TITLES[stage]) for stage in trained}
    if has_gradients(results):
        figures["gradients"] = Picture(
            results.charts / "gradients.png",
            "Each loss's share of the gradient on the layers that all of them share, over iterations",
            "Which loss pulls: the norm of each weighted loss's gradient on the shared layers, as a share of the sum "
            "of all five.",
        )
    answer = Answer(words, figures, {"losses": _losses_table(terms, TITLES[last])} if terms else {})
    return with_study(answer, results, "loss_weights")


def _losses_table(terms: dict[str, LossTrend], title: str) -> Table:
    rows = [
        [term_name(name), f"{term.weight:.3g}", *map(score, (term.first, term.highest, term.last, term.test))]
        for name, term in terms.items()
    ]
    head = ("loss", "weight", "first", "highest", "last", "last on test images")
    return Table(head, rows, f"{title.partition(':')[0]}: each loss, unweighted.")


def _weights(terms: dict[str, LossTrend]) -> str:
    """The weights in use, read off the history (weighted over raw)."""
    values = {term_name(name): term.weight for name, term in terms.items()}
    if not values:
        return ""
    if max(values.values()) - min(values.values()) < 1e-3:
        return "All losses have equal weights in this run."
    return f"The weights in this run are {listing([f'{value:.3g} for {name}' for name, value in values.items()])}."


def _speeds(terms: dict[str, LossTrend]) -> str:
    """Which loss converged how far, and what that suggests for the weights."""
    if not terms:
        return ""
    parts = [f"{percent(term.left)} of {term_name(name)}" for name, term in terms.items()]
    text = f"Of what the losses began with, this was left at the end: {listing(parts)}.{_rises(terms)}"
    slowest = max(terms, key=lambda name: terms[name].left)
    if terms[slowest].left > 1:
        return f"{text} The loss of {term_name(slowest)} grew: its weight deserves a second look."
    return f"{text} The loss of {term_name(slowest)} moved least."


def _rises(terms: dict[str, LossTrend]) -> str:
    """Which losses rose well above their beginning before they came to their end."""
    rose = [f"{term_name(name)} rose to {score(term.highest)}" for name, term in terms.items() if term.rose]
    return f" Before that, {listing(rose)}: the learning rate climbs anew in this training." if rose else ""


def _pull(results: RunResults) -> str:
    """Which loss has the largest gradient on the shared layers, at the end of the training."""
    table = results.table("joint/gradients")
    results.columns("joint/gradients", table, *ALL_LOSSES)
    last = table.tail(max(1, len(table) // 4))
    shares = {term: float(last[term].mean()) for term in ALL_LOSSES}
    pulling = {term: share for term, share in shares.items() if share > 0}
    if not pulling:
        return "No loss reached the shared layers."
    if len(pulling) == 1:
        return f"{sentence(term_name(*pulling))} alone reached the shared layers."
    parts = [f"{percent(share)} for {term_name(term)}" for term, share in pulling.items()]
    most, least = max(pulling, key=lambda term: pulling[term]), min(pulling, key=lambda term: pulling[term])
    times = pulling[most] / pulling[least]
    verdict = (
        f"{term_name(most)} pulls {times:.1f} times as hard as {term_name(least)}" if times > EVEN else "an even pull"
    )
    others = [term_name(term) for term in shares if term not in pulling]
    silent = f" {sentence(listing(others))} did not reach these layers." if others else ""
    return f"In the last quarter of the measurements the gradient's shares are {listing(parts)}: {verdict}.{silent}"


def _mask_iou(mean: float | None, coverage: float | None, lowest: float) -> str:
    if mean is None:
        return "No object was matched by a detection, so there is no mask IoU."
    text = "The mean IoU of masks with the objects that their boxes match is {}"
    if coverage is None:
        return fill(f"{text}.", score(mean))
    matched = f"{{}} of the objects are matched by a detection scored at least {lowest:g}"
    return fill(f"{text}; {matched}.", score(mean), percent(coverage))


def _mask_quality(mask: float | None, box: float | None) -> str:
    """Mask AP50 beside box AP50: what is lost between the box and the mask."""
    if mask is None or box is None:
        return "Mask AP is undefined for this test split."
    said = "many boxes that are right carry poor masks, so the mask branch is the weak link"
    if mask >= box - 0.1:
        said = "a few boxes that are right carry masks that are not, mostly of thin or cluttered shapes"
    if mask >= box - 0.02:
        said = "hardly a box that is right carries a mask that is wrong"
    return fill("At IoU 0.5 the masks reach an AP of {}, the boxes {}: {}.", score(mask), score(box), said)

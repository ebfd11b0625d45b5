"""The curves that the report draws itself, from the tables that the stages keep for DVC."""

from __future__ import annotations

from pathlib import Path

from src.figures.base import TERMS, new_figure, plot_curves, save_figure, term_name
from src.figures.training import plot_history
from src.reporting.run_results import RunResults

FINE_TUNING = ("objectness", "rpn_regression", "classification", "box_regression")
ALL_LOSSES = tuple(TERMS)
HISTORIES = {
    "rpn": (("objectness", "rpn_regression"), "Part (a): region proposal network"),
    "backbone": (FINE_TUNING, "Part (b): backbone, FPN and RPN"),
    "box_head": (("classification", "box_regression"), "Box head"),
    "mask_head": (("classification", "box_regression", "mask"), "Box head and mask branch on cached features"),
    "joint": (ALL_LOSSES, "All parts together"),
    "one_stage": (("classification", "box_regression"), "One-stage detector"),
}


def draw_charts(results: RunResults, folder: Path) -> None:
    """Draws the losses of all trainings, their gradients in joint training, and the two recall curves, as PNGs.

    A training of no epochs has no losses; its chart is left out.

    Args:
        results: of the run.
        folder: where the charts go.

    Raises:
        InputError: a stage's table is missing.
    """
    for stage, (terms, title) in HISTORIES.items():
        if was_trained(results, stage):
            train = results.plot(f"{stage}/train.csv")
            others = {name: results.root / "plots" / stage / f"{name}.csv" for name in ("test", "validation")}
            measured = {name: csv for name, csv in others.items() if csv.is_file()}
            known = [term for term in terms if term in results.table(f"{stage}/train")]
            plot_history(train, measured, known, title, folder / f"{stage}.png")
    if has_gradients(results):
        _draw_gradients(results, folder / "gradients.png")
    _draw_recall(results, "evaluate_rpn/recall", {"recall": ""}, folder / "rpn_recall.png")
    _draw_recall(
        results, "evaluate_backbone/recall", {"before": "before", "after": "after fine-tuning"}, folder / "recall.png"
    )


def was_trained(results: RunResults, stage: str) -> bool:
    """Whether a training stage took a step in this run, by its parameters."""
    if stage == "joint":
        return results.params.joint.scheme != "none"
    return bool(getattr(results.params, stage).epochs)


def has_gradients(results: RunResults) -> bool:
    """Whether joint training measured which loss pulls at the shared layers."""
    return was_trained(results, "joint") and bool(results.params.joint.gradient_interval)


def _draw_gradients(results: RunResults, path: Path) -> None:
    """Each loss's share of the gradient on the shared layers over iterations."""
    figure, axes = new_figure(width=6.4, height=3.0)
    names, colors = {term: term_name(term) for term in ALL_LOSSES}, [TERMS[term] for term in ALL_LOSSES]
    plot_curves(axes[0, 0], results.table("joint/gradients"), names, colors=colors, marker="o", markersize=3)
    axes[0, 0].set_ylim(0, 1)
    axes[0, 0].set_ylabel("share of the gradients' norms")
    save_figure(figure, path)


def _draw_recall(results: RunResults, name: str, columns: dict[str, str], path: Path) -> None:
    """Recall at IoU 0.5 against the number of proposals kept, which is spread by its logarithm."""
    figure, axes = new_figure(width=4.6, height=3.0)
    plot_curves(axes[0, 0], results.table(name), columns, x="proposals", marker="o", markersize=4)
    axes[0, 0].set_xscale("log")
    axes[0, 0].set_ylim(0, 1.02)
    axes[0, 0].set_xlabel("proposals kept per image, best first")
    axes[0, 0].set_ylabel("recall at IoU 0.5")
    save_figure(figure, path)

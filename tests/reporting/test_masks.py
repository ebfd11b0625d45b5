"""Tasks 14 and 16: the heads' trainings, the weights of losses, and which of them pulls at shared layers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from src.reporting.answers import part_c
from src.reporting.answers.losses import loss_trend
from tests.reporting.runs import LOSSES, gradients, history, training_params, with_params, write_run


@pytest.mark.parametrize(
    ("mask_head", "scheme", "tuned", "said"),
    [
        (4, "end_to_end", 3, "its losses stand in task 16."),
        (4, "none", 3, "its losses stand in task 16."),
        (0, "alternating", 0, "its losses stand in task 16."),
        (0, "none", 3, "it stays as it began."),
        (0, "none", 0, "its classes and boxes are random."),
    ],
)
def test_a_box_head_without_a_training_of_its_own(
    mask_head: int, scheme: str, tuned: int, said: str, tmp_path: Path
) -> None:
    params = with_params(training_params(box_head=0, mask_head=mask_head, scheme=scheme), "backbone", epochs=tuned)
    answer = part_c.task_14(write_run(tmp_path, params=params))
    assert answer.words["trends"].endswith(f"(box_head.epochs: 0); {said}")
    assert answer.figures == {}


START = "The head begins with the weights that the fine-tuning gave it (task 8)."


@pytest.mark.parametrize(("learned", "said"), [(LOSSES[:4], START), (LOSSES[:2], "")])
def test_the_box_head_begins_with_that_of_the_fine_tuning(learned: tuple[str, ...], said: str, tmp_path: Path) -> None:
    """If there was one: then its losses are in the history."""
    results = write_run(tmp_path, params=with_params(training_params(), "backbone", epochs=3))
    history(tmp_path / "plots/backbone", learned)
    assert part_c.task_14(results).words["start"] == said


def test_without_fine_tuning_the_box_head_begins_at_random(tmp_path: Path) -> None:
    results = write_run(tmp_path, params=with_params(training_params(), "backbone", epochs=0))
    (tmp_path / "plots/backbone/train.csv").write_text("")
    assert part_c.task_14(results).words["start"] == ""


def test_a_box_head_with_a_training_of_its_own(tmp_path: Path) -> None:
    answer = part_c.task_14(write_run(tmp_path))
    assert answer.words["trends"].startswith("The classification loss fell from")
    assert " The regression loss fell from" in answer.words["trends"]
    assert list(answer.figures) == ["history"]


@pytest.mark.parametrize(
    ("mask_head", "scheme", "order", "figures"),
    [
        (4, "end_to_end", "then all parts learn together (task 11).", ["mask_head", "joint", "gradients"]),
        (4, "none", "and nowhere else (joint.scheme: none).", ["mask_head"]),
        (0, "end_to_end", "and not on cached features before (mask_head.epochs: 0).", ["joint", "gradients"]),
        (0, "none", "so its masks are random.", []),
    ],
)
def test_where_the_mask_branch_learns(
    mask_head: int, scheme: str, order: str, figures: list[str], tmp_path: Path
) -> None:
    answer = part_c.task_16(write_run(tmp_path, params=training_params(mask_head=mask_head, scheme=scheme)))
    assert answer.words["order"].endswith(order)
    assert list(answer.figures) == figures
    assert ("losses" in answer.tables) == bool(figures)


def test_the_last_training_s_losses_are_told(tmp_path: Path) -> None:
    results = write_run(tmp_path)
    history(tmp_path / "plots/joint", LOSSES, end=3.0)
    joint = part_c.task_16(results)
    assert joint.words["mask"].startswith("In the training of all parts the mask loss rose from")
    assert "% of objectness, " in joint.words["speeds"]
    assert joint.tables["losses"].caption == "All parts together: each loss, unweighted."
    assert [row[0] for row in joint.tables["losses"].rows][:2] == ["objectness", "RPN regression"]
    cached = part_c.task_16(write_run(tmp_path, params=training_params(scheme="none")))
    assert cached.words["mask"].startswith("The mask loss fell from")
    assert "objectness" not in cached.words["speeds"]
    assert cached.tables["losses"].caption == "The heads on cached features: each loss, unweighted."
    assert len(list(cached.tables["losses"].rows)) == 3


def test_nothing_is_told_of_losses_that_there_are_not(tmp_path: Path) -> None:
    words = part_c.task_16(write_run(tmp_path, params=training_params(mask_head=0, scheme="none"))).words
    assert {words[key] for key in ("mask", "weights", "speeds", "pull")} == {""}


def test_weights_of_the_last_training_are_read_off_its_history(tmp_path: Path) -> None:
    told = part_c.task_16(write_run(tmp_path)).words["weights"]
    assert told == (
        "The weights in this run are 1 for objectness, 1 for RPN regression, 1 for classification, 1 for box "
        "regression and 2 for mask."
    )
    alone = part_c.task_16(write_run(tmp_path, params=training_params(scheme="none"))).words["weights"]
    assert alone == "All losses have equal weights in this run."


def test_a_loss_that_a_phase_leaves_out_has_its_weight_all_the_same(tmp_path: Path) -> None:
    """In alternating training a weighted loss is 0 in every phase that does not learn from it."""
    results = write_run(tmp_path, params=training_params(scheme="alternating"))
    table = pd.read_csv(tmp_path / "plots/joint/train.csv")
    alone = table["iteration"] <= 60
    table.loc[alone, ["classification_weighted", "box_regression_weighted", "mask_weighted"]] = 0.0
    table.loc[~alone, ["objectness_weighted", "rpn_regression_weighted"]] = 0.0
    table.to_csv(tmp_path / "plots/joint/train.csv", index=False)
    weights = [loss_trend(results, "joint", term).weight for term in LOSSES]
    assert weights == pytest.approx([1, 1, 1, 1, 2])
    table["mask_weighted"] = 0.0
    table["objectness"] = 0.0
    table.to_csv(tmp_path / "plots/joint/train.csv", index=False)
    assert loss_trend(results, "joint", "mask").weight == 0
    assert loss_trend(results, "joint", "objectness").weight == 1  # unknown, as it was 0 throughout


EVEN, UNEVEN, HEADS = (0.2, 0.2, 0.2, 0.16, 0.24), (0.1, 0.05, 0.3, 0.15, 0.4), (0.0, 0.0, 0.5, 0.2, 0.3)


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        (EVEN, "classification, 16.0% for box regression and 24.0% for mask: an even pull."),
        (UNEVEN, "box regression and 40.0% for mask: mask pulls 8.0 times as hard as RPN regression."),
        (HEADS, "gradient's shares are 50.0% for classification, 20.0% for box regression and 30.0% for mask:"),
        (
            HEADS,
            "classification pulls 2.5 times as hard as box regression. Objectness and RPN regression did not",
        ),
        ((0, 1, 0, 0, 0), "RPN regression alone reached the shared layers."),
        ((0, 0, 0, 0, 0), "No loss reached the shared layers."),
    ],
)
def test_which_loss_pulls_at_the_end(shares: tuple[float, ...], said: str, tmp_path: Path) -> None:
    """The beginning, where all pull evenly here, does not count."""
    results = write_run(tmp_path)
    gradients(tmp_path / "plots", dict(zip(LOSSES, shares, strict=True)))
    assert said in part_c.task_16(results).words["pull"]


def test_gradients_that_were_not_measured(tmp_path: Path) -> None:
    answer = part_c.task_16(write_run(tmp_path, params=training_params(gradient_interval=0)))
    assert answer.words["pull"] == ""
    assert "gradients" not in answer.figures

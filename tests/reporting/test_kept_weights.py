"""Task 11: which weights joint training kept, and whether it ended early."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from src.reporting.answers import part_b
from src.reporting.run_results import RunResults
from tests.reporting.runs import LOSSES, metrics, training_params, write_run

STEPS = 10  # of an epoch


def run(root: Path, totals: Sequence[float], *, start: float = 9.0, epochs: int = 3, **joint: int | str) -> RunResults:
    """A run with a validation loss after each epoch; on test images each loss is a hundredth of the iteration."""
    content = metrics(ingest__validation_images=12)
    options = {"scheme": "end_to_end", "keep": "last", "patience": 0, "epochs": epochs}
    results = write_run(root, content, training_params(**(options | joint)))
    measured = [STEPS * number for number in range(len(totals) + 1)]
    folder = root / "plots/joint"
    train = [{"iteration": 1 + i, "epoch": 1 + i // STEPS, "total": 1.0} for i in range(STEPS * len(totals))]
    pd.DataFrame(train).to_csv(folder / "train.csv", index=False)
    test = [{"iteration": place, **dict.fromkeys(LOSSES, place / 100)} for place in measured]
    pd.DataFrame(test).to_csv(folder / "test.csv", index=False)
    validation = [{"iteration": place, "total": total} for place, total in zip(measured, [start, *totals], strict=True)]
    pd.DataFrame(validation).to_csv(folder / "validation.csv", index=False)
    return results


def kept(results: RunResults) -> str:
    return part_b.task_11(results).words["kept"]


def test_nothing_is_said_where_nothing_was_chosen(tmp_path: Path) -> None:
    assert kept(run(tmp_path, [3.0, 2.0, 1.0])) == ""


def test_nothing_is_said_of_parts_that_are_put_together(tmp_path: Path) -> None:
    assert kept(run(tmp_path, [3.0, 2.0], scheme="none", keep="best")) == ""


def test_the_lowest_validation_loss_is_named(tmp_path: Path) -> None:
    assert kept(run(tmp_path, [3.0, 1.5, 2.0], keep="best")) == (
        "Training ran in full; the weights after iteration 20 were kept, whose weighted losses on the 12 validation "
        "images were the lowest, 1.500."
    )


def test_the_start_may_have_been_the_best(tmp_path: Path) -> None:
    assert "the weights after iteration 0 were kept" in kept(run(tmp_path, [3.0, 3.5], start=2.5, keep="best"))


@pytest.mark.parametrize(
    ("keep", "said"), [("last", "its last weights were kept."), ("best", "iteration 10 were kept")]
)
def test_a_training_that_ended_early(keep: str, said: str, tmp_path: Path) -> None:
    told = kept(run(tmp_path, [3.0, 4.0], epochs=5, keep=keep, patience=1))
    assert told.startswith("Training ended after epoch 2 of 5; ")
    assert said in told


def test_of_turns_the_last_one_counts(tmp_path: Path) -> None:
    turns = {"scheme": "alternating", "rounds": 1, "epochs": 1, "keep": "best"}
    told = kept(run(tmp_path, [0.1, 0.2, 0.3], start=0.05, **turns))
    assert told.startswith("Training ran in full; the weights after iteration 30 were kept")


@pytest.mark.parametrize(("keep", "after"), [("last", "0.300"), ("best", "0.200")])
def test_the_table_tells_of_the_weights_that_were_kept(keep: str, after: str, tmp_path: Path) -> None:
    rows = part_b.task_11(run(tmp_path, [3.0, 1.5, 2.0], keep=keep)).tables["losses"].rows
    assert [row[2] for row in rows] == [after] * len(LOSSES)

"""Histories: rows on the disk at once, each loss raw and weighted; a loss of NaN or infinity stops a training."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import pytest
import torch

from src.core.errors import InputError
from src.training.history import History, check_finite, loss_row, open_histories, weighted_sum

TERMS = {"objectness": torch.tensor(2.0, requires_grad=True), "rpn_regression": torch.tensor(0.5, requires_grad=True)}
WEIGHTS = {"objectness": 0.25, "rpn_regression": 3.0, "classification": 9.0}


def test_rows_are_on_the_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "plots" / "rpn" / "train.csv"
    history = History(path)
    for number in range(3):
        history.append(
            {"iteration": number, **loss_row({name: float(term.detach()) for name, term in TERMS.items()}, WEIGHTS)}
        )
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == number + 1
    history.close()
    assert rows[2] == {
        "iteration": "2",
        "objectness": "2",
        "rpn_regression": "0.5",
        "objectness_weighted": "0.5",
        "rpn_regression_weighted": "1.5",
        "total": "2",
    }


def test_an_interrupted_run_s_rows_come_first(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    whole = History(path)
    rows = [{"iteration": number, "total": 1 / (number + 1)} for number in range(4)]
    for row in rows:
        whole.append(row)
    whole.close()
    expected = path.read_bytes()
    again = History(path, rows[:2])
    assert again.rows == rows[:2]
    for row in rows[2:]:
        again.append(row)
    again.close()
    assert path.read_bytes() == expected


def test_histories_of_a_training_go_on_together(tmp_path: Path) -> None:
    rows = {"train": [{"iteration": 1, "total": 0.5}], "other": [{"iteration": 1}]}
    files = open_histories(tmp_path / "plots", ["train", "test"], rows)
    for number, history in enumerate(files.values(), start=2):
        history.append({"iteration": number, "total": 0.25})
        history.close()
    found = {path.name: path.read_text(encoding="utf-8").split() for path in (tmp_path / "plots").iterdir()}
    assert found == {"train.csv": ["iteration,total", "1,0.5", "2,0.25"], "test.csv": ["iteration,total", "3,0.25"]}


def test_whole_numbers_stay_whole(tmp_path: Path) -> None:
    history = History(tmp_path / "train.csv")
    history.append({"iteration": 1234567, "total": 1 / 3})
    history.close()
    assert (tmp_path / "train.csv").read_text(encoding="utf-8").split() == ["iteration,total", "1234567,0.333333"]


def test_the_total_is_the_weighted_sum_with_its_gradients() -> None:
    terms = {name: value.detach().clone().requires_grad_() for name, value in TERMS.items()}
    total = weighted_sum(terms, WEIGHTS)
    total.backward()
    assert float(total.detach()) == pytest.approx(2.0 * 0.25 + 0.5 * 3.0)
    assert [float(value.grad) for value in terms.values()] == [0.25, 3.0]
    raw = {name: float(value.detach()) for name, value in terms.items()}
    assert loss_row(raw, WEIGHTS)["total"] == pytest.approx(float(total.detach()))


def test_a_term_of_weight_0_is_left_out_of_the_backward_pass() -> None:
    one, other = (torch.tensor(value, requires_grad=True) for value in (2.0, 0.5))
    terms = {"objectness": one, "rpn_regression": other.log().log()}  # no number
    total = weighted_sum(terms, {"objectness": 3.0, "rpn_regression": 0.0})
    total.backward()
    assert float(total.detach()) == 6.0
    assert (float(one.grad), other.grad) == (3.0, None)
    nothing = weighted_sum(terms, dict.fromkeys(terms, 0.0))
    assert float(nothing) == 0.0
    assert not nothing.requires_grad


def test_a_term_without_a_weight_is_an_error() -> None:
    with pytest.raises(KeyError, match="mask"):
        weighted_sum({"mask": torch.tensor(1.0)}, WEIGHTS)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_names_everything(value: float) -> None:
    row = {"objectness": 0.5, "rpn_regression": value, "total": value}
    with pytest.raises(InputError, match="iteration 17") as error:
        check_finite(row, 17, lambda: ["train/000003", "train/000009"])
    for words in ("objectness=0.5", "rpn_regression=", "train/000003, train/000009"):
        assert re.search(words, str(error.value))
    check_finite({"total": 1e30}, 17, list)

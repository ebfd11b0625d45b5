"""Which weights a training ends with and when it ends, by validation losses; against snapshots and plain loops."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from src.core.runtime import derive_seed
from src.core.tensors import State
from src.training import loop
from src.training.checkpoint import Checkpoint
from src.training.loop import Progress
from src.training.schedule import Schedule
from src.training.selection import Best
from tests.training.pipeline import enter_workspace
from tests.training.toy import (
    PHASE,
    PHASES,
    SCHEDULE,
    TEST,
    VALIDATION,
    WEIGHTS,
    Batch,
    Hook,
    Toy,
    batches,
    die_at_writing,
    histories,
    killed,
    lives_until_done,
    run,
    run_phases,
    toy,
    trained,
    training,
    unheard,
    watched_validation,
)

LONG = dataclasses.replace(SCHEDULE, epochs=10, learning_rate=0.2)
CHOOSING = dataclasses.replace(LONG, keep_best=True, patience=3)
CHOOSING_IN_PHASES = dataclasses.replace(PHASE, epochs=4, learning_rate=0.2, keep_best=True, patience=1)
HISTORIES = ("train", "test", "validation")


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    enter_workspace(monkeypatch, tmp_path)


def finished(schedule: Schedule, folder: Path, **changes: Any) -> tuple[Toy, Progress]:
    """A training with validation batches from its start to its end."""
    model = toy()
    what = training(model, **({"validation": watched_validation()} | changes))
    progress = trained(model, schedule, what, folder)
    Checkpoint("toy").clear()
    return model, progress


def snapshots(schedule: Schedule, folder: Path, **changes: Any) -> list[State]:
    """The weights at each measurement of a training that goes on to its end and keeps its last ones."""
    model, states = toy(), list[State]()

    def test() -> Iterator[Batch]:
        states.append(copy.deepcopy(model.state_dict()))
        return batches(TEST, 2)

    trained(model, schedule, training(model, test=test, **changes), folder)
    Checkpoint("toy").clear()
    return states


def validation_loss(state: State) -> float:
    """The slow way: a new model, its losses on each validation batch weighted and added up."""
    model = Toy().eval()
    model.load_state_dict(state)
    torch.manual_seed(derive_seed(SCHEDULE.seed))
    with torch.no_grad():
        terms = [model(seen) for _, seen in batches(VALIDATION, 2)]
    return sum(WEIGHTS[name] * float(term.value) for each in terms for name, term in each.items()) / len(terms)


def end(losses: Sequence[float], patience: int) -> tuple[int, int]:
    """After which measurement a training ends, and which one is the lowest until then; both counted from 0."""
    lowest, waited = 0, 0
    for number, loss in enumerate(losses):
        if number == 0 or loss < losses[lowest]:
            lowest, waited = number, 0
        else:
            waited += 1
        if patience and waited == patience:
            return number, lowest
    return len(losses) - 1, lowest


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("learning_rate", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("measure_start", [False, True])
def test_the_best_epoch_s_weights_are_kept(tmp_path: Path, learning_rate: float, measure_start: bool) -> None:
    schedule = dataclasses.replace(LONG, learning_rate=learning_rate)
    states = snapshots(schedule, tmp_path, measure_start=measure_start)
    losses = [validation_loss(state) for state in states]
    best = losses.index(min(losses))
    assert best < len(losses) - 1
    changes = {"measure_start": measure_start}
    model, progress = finished(dataclasses.replace(schedule, keep_best=True), tmp_path, **changes)
    assert same(model.state_dict(), states[best])
    assert [row["total"] for row in progress.histories["validation"].rows] == pytest.approx(losses)
    model, _ = finished(schedule, tmp_path, **changes)
    assert same(model.state_dict(), states[-1])


@pytest.mark.parametrize("keep_best", [False, True])
@pytest.mark.parametrize("patience", range(1, 10))
def test_patience_ends_the_training_when_it_is_over_and_never_before(
    tmp_path: Path, patience: int, keep_best: bool
) -> None:
    """Until then each step is that of the whole training."""
    states = snapshots(LONG, tmp_path)
    whole = histories(tmp_path, "train", "test")
    last, best = end([validation_loss(state) for state in states], patience)
    schedule = dataclasses.replace(LONG, patience=patience, keep_best=keep_best)
    model, progress = finished(schedule, tmp_path)
    assert progress.iteration == (last + 1) * LONG.steps
    assert same(model.state_dict(), states[best if keep_best else last])
    assert all(text.startswith(part) for text, part in zip(whole, histories(tmp_path, "train", "test"), strict=True))
    assert [len(progress.histories[name].rows) for name in HISTORIES] == [progress.iteration, last + 1, last + 1]


@given(
    st.lists(st.integers(-3, 3).map(float) | st.floats(-3, 3), min_size=1, max_size=12),
    st.integers(0, 5),
    st.integers(1, 4),
    st.booleans(),
)
def test_when_it_ends(losses: list[float], patience: int, steps: int, from_the_start: bool) -> None:
    """Asked before each step, as a resumed training asks; the first of equally low losses is the best."""
    schedule = dataclasses.replace(SCHEDULE, epochs=len(losses), steps=steps, patience=patience)
    last, lowest = end(losses, patience)
    best, first = Best(), 0 if from_the_start else 1
    for number, loss in enumerate(losses, start=first):
        before = [iteration for iteration in range((number - 1) * steps, number * steps) if iteration >= 0]
        assert not any(best.is_old(iteration, schedule) for iteration in before)
        best.offer(loss, number * steps, None)
        if best.is_old(number * steps, schedule):
            break
    assert (number - first, best.iteration, best.loss) == (last, (lowest + first) * steps, losses[lowest])


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    model, best = nn.Linear(1, 1), Best()
    best.offer(math.nan, 4, model)
    assert best == Best()
    best.offer(1.0, 8, model)
    best.offer(math.nan, 12, model)
    assert (best.loss, best.iteration) == (1.0, 8)


def test_the_kept_weights_do_not_learn_on() -> None:
    model, best = nn.BatchNorm1d(2), Best()
    before = copy.deepcopy(model.state_dict())
    best.offer(1.0, 4, model)
    model(torch.randn(5, 2) + 3)
    nn.init.normal_(model.weight)
    assert best.weights is not None
    assert same(best.weights, before)
    assert Best(**best.state()) == best


def test_weights_are_copied_only_where_they_are_kept(tmp_path: Path) -> None:
    assert finished(dataclasses.replace(LONG, patience=2), tmp_path)[1].best.weights is None
    assert finished(CHOOSING, tmp_path)[1].best.weights is not None


@pytest.mark.parametrize("patience", [0, 1])
def test_the_start_is_a_candidate_where_it_is_measured(tmp_path: Path, patience: int) -> None:
    """With a learning rate that makes everything worse."""
    worsens = dataclasses.replace(SCHEDULE, learning_rate=20.0, keep_best=True, patience=patience)
    start = toy().state_dict()
    model, progress = finished(worsens, tmp_path, measure_start=True)
    assert same(model.state_dict(), start)
    assert progress.best.iteration == 0
    assert [row["iteration"] for row in progress.histories["validation"].rows] == (
        [0, 4] if patience else [0, 4, 8, 12]
    )
    model, progress = finished(worsens, tmp_path)
    assert not same(model.state_dict(), start)
    assert progress.best.iteration > 0


def test_validation_losses_have_a_history_of_their_own(tmp_path: Path) -> None:
    run(tmp_path)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"train.csv", "test.csv"}
    run(tmp_path, validation=watched_validation(), measure_start=True)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"train.csv", "test.csv", "validation.csv"}
    lines = histories(tmp_path, "validation")[0].splitlines()
    assert lines[0] == "iteration,first,second,first_weighted,second_weighted,total"
    assert [line.split(",")[0] for line in lines[1:]] == ["0", "4", "8", "12"]


def test_measuring_validation_losses_changes_no_step(tmp_path: Path) -> None:
    without = run(tmp_path), *histories(tmp_path)
    assert (run(tmp_path, validation=watched_validation()), *histories(tmp_path)) == without
    assert len(histories(tmp_path, "validation")[0].splitlines()) == 1 + SCHEDULE.epochs


def choose(folder: Path, hook: Hook = unheard) -> bytes:
    """A process' life in which the training ends early and goes back to its best weights."""
    return run(folder, hook, CHOOSING, validation=watched_validation(hook))


def choose_in_phases(folder: Path, hook: Hook = unheard) -> bytes:
    return run_phases(folder, hook, CHOOSING_IN_PHASES, validation=watched_validation(hook))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ...]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        enter_workspace(patch, folder)
        return choose(folder), *histories(folder, *HISTORIES)


@pytest.fixture(scope="module")
def undisturbed_phases(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ...]:
    folder = tmp_path_factory.mktemp("phases")
    with pytest.MonkeyPatch.context() as patch:
        enter_workspace(patch, folder)
        return choose_in_phases(folder), *histories(folder, *HISTORIES, "gradients")


def measured(text: str) -> list[float]:
    """The totals of a history."""
    return [float(line.rsplit(",", 1)[1]) for line in text.splitlines()[1:]]


def test_the_undisturbed_training_ends_early_with_weights_of_an_epoch_in_between(
    undisturbed: tuple[bytes, ...],
) -> None:
    """Otherwise there would be nothing to lose in a kill."""
    losses = measured(undisturbed[3])
    assert CHOOSING.patience + 1 < len(losses) < CHOOSING.epochs
    assert losses.index(min(losses)) == len(losses) - 1 - CHOOSING.patience


@pytest.mark.parametrize(
    "kills",
    [
        {"losses": [0]},
        {"losses": [7]},  # the last step of the best epoch
        {"losses": [8]},  # the first step after it
        {"losses": [3, 11, 18]},
        {"losses": [19]},
        {"test": [3]},
        {"validation": [0]},
        {"validation": [3]},  # of the best epoch
        {"validation": [4, 7], "losses": [13]},
        {"validation": [9]},  # after which it would end
        {"save": [0]},
        {"clear": [0, 1]},
    ],
)
@pytest.mark.parametrize("seconds", [-1.0, 1e9])
def test_a_killed_training_chooses_as_an_undisturbed_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: tuple[bytes, ...],
    kills: dict[str, list[int]],
    seconds: float,
) -> None:
    weights = killed(monkeypatch, tmp_path, kills, seconds, choose)
    assert (weights, *histories(tmp_path, *HISTORIES)) == undisturbed


@pytest.mark.parametrize(
    ("moment", "number"),
    [*(("row", number) for number in (4, 5, 10, 11, 28, 29)), *(("checkpoint", number) for number in (3, 7, 8, 19))],
)
def test_killed_between_measurement_and_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: tuple[bytes, ...], moment: str, number: int
) -> None:
    """Rows 4 and 5 are the first epoch's test and validation losses, 28 and 29 the last one's."""
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    die_at_writing(monkeypatch, moment, number)
    weights, lives = lives_until_done(tmp_path, unheard, choose)
    assert lives == 2
    assert (weights, *histories(tmp_path, *HISTORIES)) == undisturbed


def test_each_phase_begins_with_the_weights_that_the_one_before_kept(tmp_path: Path) -> None:
    """The first one's start is a candidate too; the others are measured from their first epoch's end on."""
    model, schedule = toy(), CHOOSING_IN_PHASES
    begun: dict[int, State] = {}
    states: list[State] = []

    def train(epoch: int) -> Iterator[Batch]:
        begun.setdefault(epoch // schedule.epochs, copy.deepcopy(model.state_dict()))
        return batches(epoch)

    def test() -> Iterator[Batch]:
        states.append(copy.deepcopy(model.state_dict()))
        return batches(TEST, 2)

    run_phases(tmp_path, unheard, schedule, model, train=train, test=test, validation=watched_validation())
    (text,) = histories(tmp_path, "validation")
    iterations = [int(line.split(",")[0]) for line in text.splitlines()[1:]]
    losses, ends = measured(text), [*(begun[number] for number in range(1, len(PHASES))), model.state_dict()]
    for number, kept in enumerate(ends):
        before, last = number * schedule.iterations, (number + 1) * schedule.iterations
        mine = [place for place, moment in enumerate(iterations) if before < moment <= last]
        mine = [0, *mine] if number == 0 else mine
        assert same(kept, states[min(mine, key=losses.__getitem__)])
    assert len(states) < 1 + schedule.epochs * len(PHASES)  # some phase ended early


@pytest.mark.parametrize(
    "kills",
    [
        {"losses": [0]},
        {"losses": [6, 15]},
        {"validation": [1]},  # the start
        {"validation": [4], "test": [9]},
        {"validation": [11], "losses": [2]},
        {"save": [0]},
        {"clear": [0, 1]},
    ],
)
@pytest.mark.parametrize("seconds", [-1.0, 1e9])
def test_a_training_killed_in_any_phase_chooses_as_an_undisturbed_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed_phases: tuple[bytes, ...],
    kills: dict[str, list[int]],
    seconds: float,
) -> None:
    weights = killed(monkeypatch, tmp_path, kills, seconds, choose_in_phases)
    assert (weights, *histories(tmp_path, *HISTORIES, "gradients")) == undisturbed_phases

"""The training loop: what it minimizes, and that a killed training ends as an undisturbed one, byte for byte."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.core.errors import InputError
from src.core.tensors import save_tensors
from src.structures.loss_term import LossTerm
from src.training import loop
from src.training.checkpoint import Checkpoint
from src.training.gradients import GradientProbe
from src.training.loop import mean_losses, start
from src.training.schedule import Schedule
from tests.detector.small import params
from tests.training.pipeline import enter_workspace
from tests.training.toy import (
    FABRIC,
    PHASE,
    PHASE_HISTORIES,
    PHASES,
    SCHEDULE,
    STEPS,
    TEST,
    WEIGHTS,
    Batch,
    Toy,
    batches,
    die_at_writing,
    histories,
    killed,
    killer,
    lives_until_done,
    run,
    run_phases,
    toy,
    trained,
    training,
    unheard,
)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A checkpoint after every iteration, in a workspace of its own."""
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    enter_workspace(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        enter_workspace(patch, folder)
        return run(folder), *histories(folder)


@pytest.mark.parametrize(
    "kills",
    [
        {"losses": [0]},
        {"losses": [1]},
        {"losses": [4]},
        {"losses": [2, 3, 9]},
        {"losses": [11]},
        {"test": [0]},
        {"test": [1, 3], "losses": [6]},
        {"save": [0]},
        {"clear": [0, 1]},
    ],
)
@pytest.mark.parametrize("seconds", [-1.0, 1e9])
def test_a_killed_training_ends_as_an_undisturbed_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: tuple[bytes, str, str],
    kills: dict[str, list[int]],
    seconds: float,
) -> None:
    weights = killed(monkeypatch, tmp_path, kills, seconds)
    assert weights == undisturbed[0]
    assert histories(tmp_path) == undisturbed[1:]


@pytest.mark.parametrize("moment", ["row", "checkpoint"])
@pytest.mark.parametrize("number", [0, 3, 4, 7])
def test_killed_between_the_history_s_row_and_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: tuple[bytes, str, str], moment: str, number: int
) -> None:
    die_at_writing(monkeypatch, moment, number)
    weights, lives = lives_until_done(tmp_path, unheard)
    assert lives == 2
    assert weights == undisturbed[0]
    assert histories(tmp_path) == undisturbed[1:]


def test_a_resumed_training_does_not_begin_anew(tmp_path: Path) -> None:
    steps: list[str] = []
    dies = killer({"losses": [9]})

    def hook(moment: str) -> None:
        dies(moment)
        steps.append(moment)

    lives_until_done(tmp_path, hook)
    assert steps.count("losses") == 12


def test_each_iteration_has_a_seed_of_its_own(tmp_path: Path) -> None:
    seeds: dict[str, list[int]] = {}
    run(tmp_path, lambda moment: seeds.setdefault(moment, []).append(torch.initial_seed()))
    assert seeds["losses"] == [loop.derive_seed(SCHEDULE.seed, iteration) for iteration in range(12)]
    assert set(seeds["test"]) == {loop.derive_seed(SCHEDULE.seed)}


def test_history_has_every_iteration_raw_and_weighted(undisturbed: tuple[bytes, str, str]) -> None:
    lines = undisturbed[1].splitlines()
    assert lines[0] == "iteration,epoch,first,second,first_weighted,second_weighted,total"
    rows = [list(map(float, line.split(","))) for line in lines[1:]]
    assert [row[0] for row in rows] == list(range(1, 13))
    assert [row[1] for row in rows] == [1] * 4 + [2] * 4 + [3] * 4
    for _, _, first, second, first_weighted, second_weighted, total in rows:
        assert (first_weighted, second_weighted) == pytest.approx((2 * first, 0.5 * second), rel=1e-5)
        assert total == pytest.approx(first_weighted + second_weighted, rel=1e-5)
    test = undisturbed[2].splitlines()
    assert test[0] == "iteration,first,second,first_weighted,second_weighted,total"
    assert [line.split(",")[0] for line in test[1:]] == ["4", "8", "12"]


def test_it_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 1e9)
    run(tmp_path, schedule=dataclasses.replace(SCHEDULE, epochs=40))
    totals = [float(line.rsplit(",", 1)[1]) for line in histories(tmp_path)[0].splitlines()[1:]]
    assert sum(totals[-40:]) < 0.75 * sum(totals[:40])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(tmp_path: Path, bad: float) -> None:
    def progress_rows() -> list[str]:
        return (tmp_path / "plots" / "train.csv").read_text(encoding="utf-8").splitlines()[1:]

    class Breaking(Toy):
        def forward(self, seen: Tensor) -> dict[str, LossTerm]:
            terms = super().forward(seen)
            broken = LossTerm(terms["second"].value * bad, len(seen))
            return {**terms, "second": broken} if len(progress_rows()) == 6 else terms

    model = Breaking()
    with pytest.raises(InputError, match=r"iteration 6: .*first=.*second=(nan|inf).* on images train/000002"):
        trained(model, SCHEDULE, training(model), tmp_path)
    state = Checkpoint("toy").load()
    assert state is not None
    assert state["iteration"] == 6
    assert all(value.isfinite().all() for value in state["model"].values())
    assert len(progress_rows()) == 6


def test_test_losses_are_measured_without_learning(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Toy()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    row = mean_losses(FABRIC, model, training(model), batches(TEST, 2), 7)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training
    torch.manual_seed(5)
    assert row == mean_losses(FABRIC, model, training(model), batches(TEST, 2), 7)
    torch.manual_seed(loop.derive_seed(7))
    with torch.no_grad():
        terms = [model(seen) for _, seen in batches(TEST, 2)]
    assert row["first"] == pytest.approx(float((terms[0]["first"].value + terms[1]["first"].value) / 2))
    assert row["second_weighted"] == pytest.approx(0.5 * row["second"])


def test_without_test_batches_there_is_no_row() -> None:
    model = Toy()
    assert mean_losses(FABRIC, model, training(model), [], 7) == {}


@pytest.mark.parametrize("epochs", [0, 1, 2, 3, 4, 5, 6, 7, 10, 25])
def test_any_length_of_training_has_a_schedule(tmp_path: Path, epochs: int) -> None:
    schedule = dataclasses.replace(SCHEDULE, epochs=epochs, steps=1)
    model = Toy()
    one = training(model, train=lambda epoch: batches(epoch, 1), steps=1)
    progress = trained(model, schedule, one, tmp_path)
    assert progress.iteration == epochs
    assert {name: len(rows) for name, rows in progress.rows().items()} == {"train": epochs, "test": epochs}


def test_the_optimizer_is_that_of_the_schedule() -> None:
    """Its rates, its decay, its cycle's length, and its slower parts; frozen parameters are left out."""
    model = Toy()
    progress = start(FABRIC, model, dataclasses.replace(SCHEDULE, slower={"body.0.": 0.25}), WEIGHTS, {})
    groups = progress.optimizer.param_groups
    assert [group["max_lr"] for group in groups] == [0.05, 0.05, 0.0125, 0.0125]
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0] * 2
    assert progress.scheduler.total_steps == 12
    optimized = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(optimized) == 6
    assert set(optimized) == {id(parameter) for parameter in model.body.parameters()}
    assert [id(parameter) for parameter in groups[2]["params"]] == [id(model.body[0].weight)]


def test_gradients_are_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, norms = Toy(), []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, *args: Any) -> Any:
        norms.append(float(torch.stack([p.grad.norm() for p in model.body.parameters()]).norm()))
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    large = {"first": 1e6, "second": 1.0}
    two = training(model, train=lambda epoch: batches(epoch, 2), steps=2, weights=large)
    trained(model, dataclasses.replace(SCHEDULE, epochs=1, steps=2), two, tmp_path)
    assert norms == pytest.approx([10.0, 10.0], rel=1e-3)


class TwoHeads(nn.Module):
    """Losses that share no layer but the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.one, self.other = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 1)

    def forward(self, seen: Tensor) -> dict[str, LossTerm]:
        features = self.trunk(seen).tanh()
        first, second = (self.one(features) - 1).square().mean(), (self.other(features) + 1).abs().mean()
        return {"first": LossTerm(first, len(seen)), "second": LossTerm(second, len(seen))}


@pytest.mark.parametrize(
    ("weights", "still"),
    [
        ({"first": 1.0, "second": 1.0}, set()),
        ({"first": 1.0, "second": 0.0}, {"other"}),
        ({"first": 0.0, "second": 1.0}, {"one"}),
        ({"first": 0.0, "second": 0.0}, {"trunk", "one", "other"}),
    ],
)
def test_nothing_learns_from_a_loss_of_weight_0_which_is_measured_all_the_same(
    tmp_path: Path, weights: dict[str, float], still: set[str]
) -> None:
    """What no other loss reaches does not even decay."""
    model = TwoHeads()
    before = copy.deepcopy(model.state_dict())
    progress = trained(model, SCHEDULE, training(model, weights=weights), tmp_path)
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert same == {name for name in before if name.partition(".")[0] in still}
    for row in progress.histories["train"].rows + progress.histories["test"].rows:
        for name, weight in weights.items():
            assert row[name] > 0
            assert row[f"{name}_weighted"] == pytest.approx(weight * row[name])


def test_measuring_before_the_first_step_is_iteration_0(tmp_path: Path) -> None:
    model = Toy()
    what = training(model, measure_start=True)
    expected = mean_losses(FABRIC, copy.deepcopy(model), what, batches(TEST, 2), SCHEDULE.seed)
    progress = trained(model, SCHEDULE, what, tmp_path)
    assert progress.histories["test"].rows[0] == {"iteration": 0, **expected}
    assert [row["iteration"] for row in progress.histories["test"].rows] == [0, 4, 8, 12]


@pytest.mark.parametrize("interval", [1, 5])
def test_comparing_gradients_changes_no_step(
    tmp_path: Path, undisturbed: tuple[bytes, str, str], interval: int
) -> None:
    model = toy()
    probe = GradientProbe(list(model.body[:2].parameters()), interval)
    progress = trained(model, SCHEDULE, training(model, gradients=probe), tmp_path)
    save_tensors(tmp_path / "model.pt", model.state_dict())
    assert ((tmp_path / "model.pt").read_bytes(), *histories(tmp_path)) == undisturbed
    rows = progress.histories["gradients"].rows
    assert [row["iteration"] for row in rows] == list(range(1, 13, interval))
    assert all(row["first"] + row["second"] == pytest.approx(1) for row in rows)


@pytest.fixture(scope="module")
def undisturbed_phases(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ...]:
    folder = tmp_path_factory.mktemp("phases")
    with pytest.MonkeyPatch.context() as patch:
        enter_workspace(patch, folder)
        return run_phases(folder), *histories(folder, *PHASE_HISTORIES)


@pytest.mark.parametrize(
    "kills",
    [
        {"losses": [0]},
        {"losses": [3, 7]},
        {"losses": [8]},  # the second phase's first step
        {"losses": [9]},
        {"losses": [14]},
        {"losses": [2, 13, 20]},
        {"losses": [16]},
        {"losses": [23]},
        {"test": [0]},  # before the first step
        {"test": [3, 5]},
        {"test": [8], "losses": [12]},
        {"save": [0]},
        {"clear": [0, 1]},
    ],
)
@pytest.mark.parametrize("seconds", [-1.0, 1e9])
def test_a_training_killed_in_any_phase_ends_as_an_undisturbed_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed_phases: tuple[bytes, ...],
    kills: dict[str, list[int]],
    seconds: float,
) -> None:
    weights = killed(monkeypatch, tmp_path, kills, seconds, run_phases)
    assert weights == undisturbed_phases[0]
    assert histories(tmp_path, *PHASE_HISTORIES) == undisturbed_phases[1:]
    assert Checkpoint("toy").phase(0).load() is None


def test_phases_are_one_history(undisturbed_phases: tuple[bytes, ...]) -> None:
    train, test, gradients = ([line.split(",") for line in text.splitlines()] for text in undisturbed_phases[1:])
    assert [row[0] for row in train[1:]] == [str(number) for number in range(1, STEPS + 1)]
    assert [row[1] for row in train[1:]] == [str(1 + number // SCHEDULE.steps) for number in range(STEPS)]
    assert [row[0] for row in test[1:]] == ["0", *(str(number) for number in range(4, STEPS + 1, 4))]
    assert train[0] == ["iteration", "epoch", "first", "second", "first_weighted", "second_weighted", "total"]
    assert gradients[0] == ["iteration", "first", "second", "first_norm", "second_norm"]
    assert [row[:3] for row in gradients[1:]] == [
        ["9", "1", "0"],
        ["12", "1", "0"],
        ["15", "1", "0"],
    ]  # from its phase's first
    for number, row in enumerate(train[1:]):  # what teaches nothing is measured all the same
        first, second, *weighted = map(float, row[2:6])
        assert first > 0
        assert second > 0
        weights = PHASES[number // PHASE.iterations][1]
        assert weighted == pytest.approx([weights["first"] * first, weights["second"] * second], rel=1e-4)


def test_draws_and_batches_of_phases_do_not_repeat(tmp_path: Path) -> None:
    seeds: list[int] = []
    epochs: list[int] = []

    def noted(epoch: int) -> Iterator[Batch]:
        epochs.append(epoch)
        return batches(epoch)

    def hook(moment: str) -> None:
        if moment == "losses":
            seeds.append(torch.initial_seed())

    run_phases(tmp_path, hook, train=noted)
    assert seeds == [loop.derive_seed(SCHEDULE.seed, number) for number in range(STEPS)]
    assert epochs == list(range(STEPS // SCHEDULE.steps))


def test_clipping_counts_only_what_learns_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the last gradients of an earlier phase."""
    counted: list[list[bool]] = []
    clip = nn.utils.clip_grad_norm_

    def watched(parameters: Iterator[nn.Parameter], limit: float) -> Tensor:
        known = list(parameters)
        counted.append([one.grad is not None for one in known])
        assert counted[-1] == [one.requires_grad for one in known]
        return clip(known, limit)

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", watched)
    run_phases(tmp_path)
    assert len(counted) == STEPS
    assert len({tuple(which) for which in counted}) == 2


def test_finished_phases_are_passed_over(tmp_path: Path) -> None:
    steps: list[str] = []
    dies = killer({"losses": [21]})

    def hook(moment: str) -> None:
        dies(moment)
        steps.append(moment)

    lives_until_done(tmp_path, hook, run_phases)
    assert steps.count("losses") == STEPS


def test_a_schedule_is_that_of_its_section() -> None:
    options = dataclasses.replace(
        params().box_head, epochs=5, learning_rate=0.25, weight_decay=0.125, seed=11, batch_size=3
    )
    found = Schedule.from_params("box head", options, 17)
    assert found == Schedule("box head", 5, 17, 0.25, 0.125, 11)
    assert (found.iterations, found.first_epoch, found.first_iteration, found.slower) == (85, 0, 0, {})
    assert (found.keep_best, found.patience) == (False, 0)


def test_a_later_phase_s_schedule_knows_what_came_before() -> None:
    found = dataclasses.replace(Schedule.from_params("joint", params().joint, 17), epochs=5, first_epoch=10)
    assert (found.iterations, found.first_epoch, found.first_iteration) == (85, 10, 170)

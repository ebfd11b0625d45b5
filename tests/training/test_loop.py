"""The training loop: what it minimizes, and that a killed training ends as an undisturbed one, byte for byte."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from src.core.errors import InputError
from src.core.tensors import save_tensors
from src.training import loop
from src.training.checkpoint import Checkpoint
from src.training.gradients import GradientProbe
from src.training.history import History
from src.training.loop import Progress, Schedule, Training, fit, mean_losses, start
from tests.detector.small import params
from tests.training.pipeline import enter_workspace

SCHEDULE = Schedule("toy", epochs=3, steps=4, learning_rate=0.05, weight_decay=0.01, seed=7)
FABRIC = Fabric(accelerator="cpu", devices=1, precision="32-true")
Batch = tuple[int, Tensor]


class Killed(BaseException):
    """What a signal would do, at a chosen moment."""


class Toy(nn.Module):
    """Batch statistics, dropout and a frozen parameter: whatever a resumed training could lose."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)

    def forward(self, seen: Tensor) -> dict[str, Tensor]:
        found = self.body(seen) * self.frozen
        noise = 0.1 * torch.randn(len(seen))  # a draw, as a sampler makes it
        return {"first": (found[:, 0] - seen.sum(1) - noise).square().mean(), "second": found[:, 1].abs().mean()}


def batches(epoch: int, count: int = SCHEDULE.steps) -> Iterator[Batch]:
    for number in range(count):
        yield number, torch.randn(5, 3, generator=torch.Generator().manual_seed(100 * epoch + number))


def training(model: nn.Module, hook: Callable[[str], None] = lambda moment: None) -> Training[Batch]:
    def arguments(batch: Batch) -> list[Tensor]:
        hook("losses" if model.training else "test")
        return [batch[1]]

    return Training[Batch](
        train=batches,
        test=lambda: batches(99, 2),
        arguments=arguments,
        weights={"first": 2.0, "second": 0.5},
        names=lambda batch: [f"train/{batch[0]:06d}"],
    )


def trained(model: nn.Module, schedule: Schedule, what: Training[Batch], folder: Path) -> Progress:
    """Trains from the last checkpoint; histories go to `plots` in the folder."""
    return fit(FABRIC, model, schedule, what, histories=folder / "plots", checkpoint=Checkpoint("toy"))


def run(folder: Path, hook: Callable[[str], None] = lambda moment: None, schedule: Schedule = SCHEDULE) -> bytes:
    """One process' life: build, resume if there is something, train, save. Returns the saved model's bytes."""
    torch.manual_seed(schedule.seed)
    model = Toy()
    progress = trained(model, schedule, training(model, hook), folder)
    assert progress.iteration == schedule.epochs * schedule.steps
    hook("save")
    save_tensors(folder / "model.pt", model.state_dict())
    hook("clear")
    Checkpoint("toy").clear()
    return (folder / "model.pt").read_bytes()


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


def histories(folder: Path) -> tuple[str, str]:
    train_csv, test_csv = ((folder / "plots" / name).read_text(encoding="utf-8") for name in ("train.csv", "test.csv"))
    return train_csv, test_csv


def killer(kills: dict[str, list[int]]) -> Callable[[str], None]:
    """Raises at the n-th time of each moment, counted over all lives."""
    counts: dict[str, int] = {}

    def hook(moment: str) -> None:
        counts[moment] = counts.get(moment, -1) + 1
        if counts[moment] in kills.get(moment, []):
            raise Killed

    return hook


def lives_until_done(
    folder: Path, hook: Callable[[str], None], one_life: Callable[[Path, Callable[[str], None]], bytes] = run
) -> tuple[bytes, int]:
    for life in itertools.count(1):
        try:
            return one_life(folder, hook), life
        except Killed:  # noqa: PERF203 - that is the point
            continue
    raise AssertionError


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
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", seconds)
    weights, lives = lives_until_done(tmp_path, killer(kills))
    assert lives == 1 + sum(map(len, kills.values()))
    assert weights == undisturbed[0]
    assert histories(tmp_path) == undisturbed[1:]


@pytest.mark.parametrize("moment", ["row", "checkpoint"])
@pytest.mark.parametrize("number", [0, 3, 4, 7])
def test_killed_between_the_history_s_row_and_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: tuple[bytes, str, str], moment: str, number: int
) -> None:
    hook = killer({moment: [number]})
    owner, name = (History, "append") if moment == "row" else (Checkpoint, "save")
    original = getattr(owner, name)

    def dies(self: Any, value: Any) -> None:
        if moment == "checkpoint":
            hook(moment)  # before anything is written
        original(self, value)
        if moment == "row":
            hook(moment)  # the row is on the disk, the checkpoint is not

    monkeypatch.setattr(owner, name, dies)
    weights, lives = lives_until_done(tmp_path, lambda moment: None)
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
        def forward(self, seen: Tensor) -> dict[str, Tensor]:
            terms = super().forward(seen)
            return {**terms, "second": terms["second"] * bad} if len(progress_rows()) == 6 else terms

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
    row = mean_losses(FABRIC, model, training(model), 7)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training
    torch.manual_seed(5)
    assert row == mean_losses(FABRIC, model, training(model), 7)
    torch.manual_seed(loop.derive_seed(7))
    with torch.no_grad():
        terms = [model(seen) for _, seen in batches(99, 2)]
    assert row["first"] == pytest.approx(float((terms[0]["first"] + terms[1]["first"]) / 2))
    assert row["second_weighted"] == pytest.approx(0.5 * row["second"])


def test_without_test_batches_there_is_no_row() -> None:
    model = Toy()
    assert mean_losses(FABRIC, model, dataclasses.replace(training(model), test=list), 7) == {}


@pytest.mark.parametrize("epochs", [0, 1, 2, 3, 4, 5, 6, 7, 10, 25])
def test_any_length_of_training_has_a_schedule(tmp_path: Path, epochs: int) -> None:
    schedule = dataclasses.replace(SCHEDULE, epochs=epochs, steps=1)
    model = Toy()
    one = dataclasses.replace(training(model), train=lambda epoch: batches(epoch, 1))
    progress = trained(model, schedule, one, tmp_path)
    assert progress.iteration == epochs
    assert {name: len(rows) for name, rows in progress.rows().items()} == {"train": epochs, "test": epochs}


def test_the_optimizer_is_that_of_the_schedule() -> None:
    """Its rates, its decay, its cycle's length, and its slower parts; frozen parameters are left out."""
    model = Toy()
    progress = start(model, dataclasses.replace(SCHEDULE, slower={"body.0.": 0.25}), {})
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
    two = dataclasses.replace(training(model), train=lambda epoch: batches(epoch, 2), weights=large)
    trained(model, dataclasses.replace(SCHEDULE, epochs=1, steps=2), two, tmp_path)
    assert norms == pytest.approx([10.0, 10.0], rel=1e-3)


class TwoHeads(nn.Module):
    """Losses that share no layer but the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.one, self.other = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 1)

    def forward(self, seen: Tensor) -> dict[str, Tensor]:
        features = self.trunk(seen).tanh()
        return {"first": (self.one(features) - 1).square().mean(), "second": (self.other(features) + 1).abs().mean()}


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
    progress = trained(model, SCHEDULE, dataclasses.replace(training(model), weights=weights), tmp_path)
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert same == {name for name in before if name.partition(".")[0] in still}
    for row in progress.histories["train"].rows + progress.histories["test"].rows:
        for name, weight in weights.items():
            assert row[name] > 0
            assert row[f"{name}_weighted"] == pytest.approx(weight * row[name])


def test_measuring_before_the_first_step_is_iteration_0(tmp_path: Path) -> None:
    model = Toy()
    what = dataclasses.replace(training(model), measure_start=True)
    expected = mean_losses(FABRIC, copy.deepcopy(model), what, SCHEDULE.seed)
    progress = trained(model, SCHEDULE, what, tmp_path)
    assert progress.histories["test"].rows[0] == {"iteration": 0, **expected}
    assert [row["iteration"] for row in progress.histories["test"].rows] == [0, 4, 8, 12]


@pytest.mark.parametrize("interval", [1, 5])
def test_comparing_gradients_changes_no_step(
    tmp_path: Path, undisturbed: tuple[bytes, str, str], interval: int
) -> None:
    torch.manual_seed(SCHEDULE.seed)
    model = Toy()
    probe = GradientProbe(list(model.body[:2].parameters()), interval)
    progress = trained(model, SCHEDULE, dataclasses.replace(training(model), gradients=probe), tmp_path)
    save_tensors(tmp_path / "model.pt", model.state_dict())
    assert ((tmp_path / "model.pt").read_bytes(), *histories(tmp_path)) == undisturbed
    rows = progress.histories["gradients"].rows
    assert [row["iteration"] for row in rows] == list(range(1, 13, interval))
    assert all(row["first"] + row["second"] == pytest.approx(1) for row in rows)


# Phases: the last layer, then those before it, then the last one again, each from a loss of its own. The weights are
# such that gradients are clipped in every step.
PHASES: tuple[tuple[slice, dict[str, float]], ...] = (
    (slice(4, 5), {"first": 0.0, "second": 900.0}),
    (slice(0, 2), {"first": 3000.0, "second": 0.0}),
    (slice(4, 5), {"first": 0.0, "second": 900.0}),
)
PHASE = dataclasses.replace(SCHEDULE, epochs=2)
STEPS = len(PHASES) * PHASE.iterations


def run_phases(
    folder: Path, hook: Callable[[str], None] = lambda moment: None, epochs: list[int] | None = None
) -> bytes:
    """As `run`, phase after phase; notes the epochs whose batches are asked for."""

    def noted(epoch: int) -> Iterator[Batch]:
        if epochs is not None:
            epochs.append(epoch)
        return batches(epoch)

    torch.manual_seed(SCHEDULE.seed)
    model, progress = Toy(), None
    probe = GradientProbe(list(model.body[:2].parameters()), 3)
    what = dataclasses.replace(training(model, hook), train=noted, gradients=probe, measure_start=True)
    for number, (layers, weights) in enumerate(PHASES):
        model.requires_grad_(False)
        model.body[layers].requires_grad_(True)
        progress = fit(
            FABRIC,
            model,
            dataclasses.replace(PHASE, first_epoch=number * PHASE.epochs, slower={"body.0.": 0.5}),
            dataclasses.replace(what, weights=weights),
            histories=folder / "plots",
            checkpoint=Checkpoint("toy").phase(number),
            after=progress,
        )
    hook("save")
    save_tensors(folder / "model.pt", model.state_dict())
    hook("clear")
    Checkpoint("toy").clear()
    return (folder / "model.pt").read_bytes()


def phase_histories(folder: Path) -> tuple[str, ...]:
    return (*histories(folder), (folder / "plots" / "gradients.csv").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def undisturbed_phases(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ...]:
    folder = tmp_path_factory.mktemp("phases")
    with pytest.MonkeyPatch.context() as patch:
        enter_workspace(patch, folder)
        return run_phases(folder), *phase_histories(folder)


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
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", seconds)
    weights, lives = lives_until_done(tmp_path, killer(kills), run_phases)
    assert lives == 1 + sum(map(len, kills.values()))
    assert weights == undisturbed_phases[0]
    assert phase_histories(tmp_path) == undisturbed_phases[1:]
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
    run_phases(tmp_path, lambda moment: seeds.append(torch.initial_seed()) if moment == "losses" else None, epochs)
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


def test_a_later_phase_s_schedule_knows_what_came_before() -> None:
    options = dataclasses.replace(params().joint, epochs=5)
    found = Schedule.from_params("joint", options, 17, first_epoch=10, slower={"body.": 0.1})
    assert (found.iterations, found.first_epoch, found.first_iteration) == (85, 10, 170)
    assert found.slower == {"body.": 0.1}

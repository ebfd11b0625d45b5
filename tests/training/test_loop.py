"""The training loop: what it minimizes, and that a killed training ends as an undisturbed one, byte for byte."""

from __future__ import annotations

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
from src.training.history import History
from src.training.loop import Progress, Schedule, Training, fit, mean_losses, start
from tests.detector.small import params
from tests.training.pipeline import write_pipeline

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


def training(model: Toy, hook: Callable[[str], None] = lambda moment: None) -> Training[Batch]:
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


def trained(model: Toy, schedule: Schedule, what: Training[Batch], folder: Path) -> Progress:
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


def enter_workspace(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """A project of one stage as working directory."""
    patch.delenv("DVC_ROOT", raising=False)
    patch.chdir(folder)
    write_pipeline({"toy": {"deps": []}}, {})


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


def lives_until_done(folder: Path, hook: Callable[[str], None]) -> tuple[bytes, int]:
    for life in itertools.count(1):
        try:
            return run(folder, hook), life
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
    assert len(progress.history.rows) == len(progress.test_history.rows) == epochs


def rates(steps: int, tmp_path: Path) -> list[float]:
    progress = started(Toy(), tmp_path, dataclasses.replace(SCHEDULE, epochs=1, steps=steps))
    found = []
    for _ in range(steps):
        found.append(progress.optimizer.param_groups[0]["lr"])
        progress.optimizer.step()
        progress.scheduler.step()
    return found


def started(model: nn.Module, folder: Path, schedule: Schedule = SCHEDULE) -> Progress:
    return start(model, schedule, History(folder / "train.csv"), History(folder / "test.csv"))


@pytest.mark.parametrize("steps", [5, 6, 50])
def test_the_rate_rises_to_its_peak_and_falls(tmp_path: Path, steps: int) -> None:
    found = rates(steps, tmp_path)
    peak = found.index(max(found))
    assert 0 < peak <= 0.35 * steps
    assert max(found) == pytest.approx(SCHEDULE.learning_rate, rel=0.1)
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert found[-1] < 0.01 * SCHEDULE.learning_rate


def test_frozen_parameters_are_left_out_and_vectors_do_not_decay(tmp_path: Path) -> None:
    model = Toy()
    matrices, vectors = started(model, tmp_path).optimizer.param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.01, 0.0)
    optimized = {id(parameter) for group in (matrices, vectors) for parameter in group["params"]}
    assert optimized == {id(parameter) for parameter in model.body.parameters()}
    assert all(parameter.ndim > 1 for parameter in matrices["params"])
    assert all(parameter.ndim <= 1 for parameter in vectors["params"])


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


def test_a_schedule_is_that_of_its_section() -> None:
    options = dataclasses.replace(
        params().box_head, epochs=5, learning_rate=0.25, weight_decay=0.125, seed=11, batch_size=3
    )
    assert Schedule.from_params("box head", options, 17) == Schedule("box head", 5, 17, 0.25, 0.125, 11)

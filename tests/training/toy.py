"""A small training in the working directory, whose process may be killed at a chosen moment and begun again."""

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

from src.core.tensors import save_tensors
from src.structures.loss_term import LossTerm
from src.training import loop
from src.training.checkpoint import Checkpoint
from src.training.gradients import GradientProbe
from src.training.history import History
from src.training.loop import Progress, Training, fit
from src.training.schedule import Schedule

SCHEDULE = Schedule("toy", epochs=3, steps=4, learning_rate=0.05, weight_decay=0.01, seed=7)
FABRIC = Fabric(accelerator="cpu", devices=1, precision="32-true")
TEST, VALIDATION = 99, 77  # the epochs of which these batches would be
WEIGHTS = {"first": 2.0, "second": 0.5}
Batch = tuple[int, Tensor]
Hook = Callable[[str], None]


class Killed(BaseException):
    """What a signal would do, at a chosen moment."""


class Toy(nn.Module):
    """Batch statistics, dropout and a frozen parameter: whatever a resumed training could lose."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)

    def forward(self, seen: Tensor) -> dict[str, LossTerm]:
        found = self.body(seen) * self.frozen
        noise = 0.1 * torch.randn(len(seen))  # a draw, as a sampler makes it
        first, second = (found[:, 0] - seen.sum(1) - noise).square().mean(), found[:, 1].abs().mean()
        return {"first": LossTerm(first, len(seen)), "second": LossTerm(second, len(seen))}


def toy() -> Toy:
    """As every life of the process begins with it."""
    torch.manual_seed(SCHEDULE.seed)
    return Toy()


def unheard(moment: str) -> None:
    """A hook that does nothing."""


def batches(epoch: int, count: int = SCHEDULE.steps) -> Iterator[Batch]:
    for number in range(count):
        yield number, torch.randn(5, 3, generator=torch.Generator().manual_seed(100 * epoch + number))


def training(model: nn.Module, hook: Hook = unheard, **changes: Any) -> Training[Batch]:
    """What the toy learns from; the hook hears of each batch, and whether it is one of training or one of a test."""

    def arguments(batch: Batch) -> list[Tensor]:
        hook("losses" if model.training else "test")
        return [batch[1]]

    values: dict[str, Any] = {
        "train": batches,
        "steps": SCHEDULE.steps,
        "test": lambda: batches(TEST, 2),
        "arguments": arguments,
        "weights": WEIGHTS,
        "names": lambda batch: [f"train/{batch[0]:06d}"],
    }
    return Training[Batch](**(values | changes))


def watched_validation(hook: Hook = unheard) -> Callable[[], Iterator[Batch]]:
    """Two validation batches; the hook hears of each."""

    def read() -> Iterator[Batch]:
        for batch in batches(VALIDATION, 2):
            hook("validation")
            yield batch

    return read


def trained(model: nn.Module, schedule: Schedule, what: Training[Batch], folder: Path) -> Progress:
    """Trains from the last checkpoint; histories go to `plots` in the folder."""
    return fit(FABRIC, model, schedule, what, histories=folder / "plots", checkpoint=Checkpoint("toy"))


def run(folder: Path, hook: Hook = unheard, schedule: Schedule = SCHEDULE, **changes: Any) -> bytes:
    """One process' life: build, resume if there is something, train, save. Returns the saved model's bytes."""
    model = toy()
    progress = trained(model, schedule, training(model, hook, **changes), folder)
    assert progress.iteration == schedule.iterations or schedule.patience
    return saved(model, folder, hook)


def saved(model: nn.Module, folder: Path, hook: Hook) -> bytes:
    """The end of a life: the model's bytes on the disk, no checkpoint any more."""
    hook("save")
    save_tensors(folder / "model.pt", model.state_dict())
    hook("clear")
    Checkpoint("toy").clear()
    return (folder / "model.pt").read_bytes()


def histories(folder: Path, *names: str) -> tuple[str, ...]:
    """The csv files as texts."""
    return tuple((folder / "plots" / f"{name}.csv").read_text(encoding="utf-8") for name in names or ("train", "test"))


def killer(kills: dict[str, list[int]]) -> Hook:
    """Raises at the n-th time of each moment, counted over all lives."""
    counts: dict[str, int] = {}

    def hook(moment: str) -> None:
        counts[moment] = counts.get(moment, -1) + 1
        if counts[moment] in kills.get(moment, []):
            raise Killed

    return hook


def die_at_writing(patch: pytest.MonkeyPatch, moment: str, number: int) -> None:
    """Kills once, after the n-th `row` of a history has come to the disk, or before the n-th `checkpoint` does."""
    hook = killer({moment: [number]})
    owner, name = (History, "append") if moment == "row" else (Checkpoint, "save")
    original = getattr(owner, name)

    def dies(self: Any, value: Any) -> None:
        if moment == "checkpoint":
            hook(moment)  # before anything is written
        original(self, value)
        if moment == "row":
            hook(moment)  # the row is on the disk, the checkpoint is not

    patch.setattr(owner, name, dies)


def lives_until_done(folder: Path, hook: Hook, one_life: Callable[[Path, Hook], bytes] = run) -> tuple[bytes, int]:
    """Begins the process again until it comes to its end; its bytes, and how many lives it took."""
    for life in itertools.count(1):
        try:
            return one_life(folder, hook), life
        except Killed:  # noqa: PERF203 - that is the point
            continue
    raise AssertionError


def killed(
    patch: pytest.MonkeyPatch,
    folder: Path,
    kills: dict[str, list[int]],
    seconds: float,
    one_life: Callable[[Path, Hook], bytes] = run,
) -> bytes:
    """What a training ends with that is killed at all these moments, with so many seconds between checkpoints."""
    patch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", seconds)
    weights, lives = lives_until_done(folder, killer(kills), one_life)
    assert lives == 1 + sum(map(len, kills.values()))
    return weights


# Phases: the last layer, then those before it, then the last one again, each from a loss of its own. The weights are
# such that gradients are clipped in every step.
PHASES: tuple[tuple[slice, dict[str, float]], ...] = (
    (slice(4, 5), {"first": 0.0, "second": 900.0}),
    (slice(0, 2), {"first": 3000.0, "second": 0.0}),
    (slice(4, 5), {"first": 0.0, "second": 900.0}),
)
PHASE = dataclasses.replace(SCHEDULE, epochs=2)
STEPS = len(PHASES) * PHASE.iterations
PHASE_HISTORIES = ("train", "test", "gradients")


def run_phases(
    folder: Path, hook: Hook = unheard, schedule: Schedule = PHASE, model: Toy | None = None, **changes: Any
) -> bytes:
    """As `run`, phase after phase; of a new model, if none is given."""
    model, rows = model or toy(), None
    probe = GradientProbe(list(model.body[:2].parameters()), 3)
    what = training(model, hook, gradients=probe, measure_start=True, **changes)
    for number, (layers, weights) in enumerate(PHASES):
        model.requires_grad_(False)
        model.body[layers].requires_grad_(True)
        rows = fit(
            FABRIC,
            model,
            dataclasses.replace(schedule, first_epoch=number * schedule.epochs, slower={"body.0.": 0.5}),
            dataclasses.replace(what, weights=weights),
            histories=folder / "plots",
            checkpoint=Checkpoint("toy").phase(number),
            after=rows,
        ).rows()
    return saved(model, folder, hook)

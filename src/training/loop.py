"""The training loop that all trainings share: batches to losses to steps, with history and checkpoints.

What is trained is a module whose `forward` returns its raw loss terms; what differs besides (data, weights) comes in as
a `Training`. Nothing is looked up by name.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from tqdm import tqdm

from src.core.runtime import derive_seed
from src.training.checkpoint import Checkpoint
from src.training.history import History, Row, check_finite, loss_row, weighted_sum

Batch = TypeVar("Batch")
SECONDS_BETWEEN_CHECKPOINTS = 60.0
LARGEST_GRADIENT_NORM = 10.0


@runtime_checkable
class Options(Protocol):
    """What a section of params says of its training."""

    @property
    def epochs(self) -> int: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def weight_decay(self) -> float: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: `epochs` of `steps` iterations, AdamW under a one-cycle learning rate."""

    name: str
    epochs: int
    steps: int
    learning_rate: float
    weight_decay: float
    seed: int

    @classmethod
    def from_params(cls, name: str, options: Options, steps: int) -> Schedule:
        """The schedule of a section of params; `steps` iterations per epoch."""
        return cls(name, options.epochs, steps, options.learning_rate, options.weight_decay, options.seed)


@dataclass(frozen=True)
class Training(Generic[Batch]):
    """What a module learns from and is tested on.

    Attributes:
        train: the batches of an epoch, in an order that depends on the epoch alone.
        test: the batches on which losses are measured after each epoch.
        arguments: what the module's `forward` takes of a batch. It draws from torch's global generator alone, which is
            seeded anew in each iteration.
        weights: the weight of each loss term.
        names: the images of a batch, for messages.
    """

    train: Callable[[int], Iterable[Batch]]
    test: Callable[[], Iterable[Batch]]
    arguments: Callable[[Batch], Sequence[Any]]
    weights: Mapping[str, float]
    names: Callable[[Batch], Sequence[str]]


@dataclass
class Progress:
    """Everything that a resumed training needs beside the model's weights."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    history: History
    test_history: History
    iteration: int = 0

    def state(self) -> dict[str, Any]:
        """The tree that `restore` takes; iterations count from 0, the next one to run."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "rows": self.history.rows,
            "test_rows": self.test_history.rows,
            "iteration": self.iteration,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Puts everything back as it was when `state` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        for row in state["rows"]:
            self.history.append(row)
        for row in state["test_rows"]:
            self.test_history.append(row)
        self.iteration = state["iteration"]


def start(model: nn.Module, schedule: Schedule, history: History, test_history: History) -> Progress:
    """A training at its first iteration; only parameters that require gradients are optimized."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": schedule.weight_decay},
        {"params": vectors, "weight_decay": 0.0},  # biases and normalization are not decayed
    ]
    optimizer = AdamW(groups, lr=schedule.learning_rate)
    total = max(schedule.epochs * schedule.steps, 2)
    warm_up = 0.3 if total == 5 else 0.2  # OneCycleLR divides by warm_up * total - 1
    scheduler = OneCycleLR(optimizer, schedule.learning_rate, total_steps=total, pct_start=warm_up)
    return Progress(model, optimizer, scheduler, history, test_history)


def fit(
    fabric: Fabric,
    model: nn.Module,
    schedule: Schedule,
    training: Training[Batch],
    *,
    histories: Path,
    checkpoint: Checkpoint,
) -> Progress:
    """Trains `model` from the last checkpoint, if there is one, to the schedule's end.

    Losses of the test batches are measured after each epoch. An iteration's random draws depend on the seed and its
    number alone, so a resumed run equals an undisturbed one.

    Args:
        fabric: device and precision.
        model: `model(*arguments)` gives its raw loss terms.
        schedule: how long and how fast.
        training: batches and weights.
        histories: the folder of `train.csv` and `test.csv`.
        checkpoint: where the state is saved, and resumed from.

    Returns:
        The finished training, with both histories' rows.

    Raises:
        InputError: a loss is not finite; the last checkpoint stays.
    """
    progress = start(model, schedule, History(histories / "train.csv"), History(histories / "test.csv"))
    if state := checkpoint.load():
        progress.restore(state)
    bar = tqdm(total=schedule.epochs * schedule.steps, initial=progress.iteration, desc=schedule.name, unit="step")
    while progress.iteration < schedule.epochs * schedule.steps:
        _epoch(fabric, schedule, training, progress, checkpoint, bar)
        losses = mean_losses(fabric, model, training, schedule.seed)
        progress.test_history.append({"iteration": progress.iteration, **losses})
        checkpoint.save(progress.state())
    bar.close()
    progress.history.close()
    progress.test_history.close()
    return progress


def _epoch(
    fabric: Fabric,
    schedule: Schedule,
    training: Training[Batch],
    progress: Progress,
    checkpoint: Checkpoint,
    bar: tqdm,
) -> None:
    """The rest of the epoch that `progress` is in, with a checkpoint a minute."""
    epoch, done = divmod(progress.iteration, schedule.steps)
    saved = time.monotonic()
    for batch in itertools.islice(training.train(epoch), done, None):
        row = _step(fabric, schedule, training, progress, batch)
        bar.set_postfix(loss=f"{row['total']:.3f}", refresh=False)
        bar.update()
        if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS and progress.iteration % schedule.steps:
            checkpoint.save(progress.state())
            saved = time.monotonic()


def _step(fabric: Fabric, schedule: Schedule, training: Training[Batch], progress: Progress, batch: Batch) -> Row:
    """One iteration: losses in mixed precision, gradients clipped, weights and learning rate moved on, row written."""
    torch.manual_seed(derive_seed(schedule.seed, progress.iteration))
    progress.model.train()
    with fabric.autocast():
        terms = progress.model(*training.arguments(batch))
    row = loss_row(terms, training.weights)
    check_finite(row, progress.iteration, training.names(batch))
    progress.optimizer.zero_grad(set_to_none=True)
    weighted_sum(terms, training.weights).backward()
    nn.utils.clip_grad_norm_(progress.model.parameters(), LARGEST_GRADIENT_NORM)
    progress.optimizer.step()
    progress.scheduler.step()
    progress.iteration += 1
    epoch = (progress.iteration - 1) // schedule.steps
    progress.history.append({"iteration": progress.iteration, "epoch": epoch + 1, **row})
    return row


@torch.no_grad()
def mean_losses(fabric: Fabric, model: nn.Module, training: Training[Batch], seed: int) -> Row:
    """Losses of the test batches, a mean over them, without learning; the same draws every time."""
    model.eval()
    torch.manual_seed(derive_seed(seed))
    rows = []
    for batch in training.test():
        with fabric.autocast():
            rows.append(loss_row(model(*training.arguments(batch)), training.weights))
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]} if rows else {}

"""The training loop that all four trainings share: batches to losses to steps, with history and checkpoints.

What differs between them (data, losses, weights) comes in as functions; nothing is looked up by name.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from tqdm import tqdm

from src.core.runtime import derive_seed
from src.training.checkpoint import Checkpoint
from src.training.history import History, Row, check_finite, loss_row, weighted_sum

Batch = TypeVar("Batch")
SECONDS_BETWEEN_CHECKPOINTS = 60.0
LARGEST_GRADIENT_NORM = 10.0


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: `epochs` passes of `steps` iterations, AdamW under a one-cycle learning rate."""

    name: str
    epochs: int
    steps: int
    learning_rate: float
    weight_decay: float
    seed: int


@dataclass(frozen=True)
class Task(Generic[Batch]):
    """What is learned.

    Attributes:
        batches: the batches of an epoch, in an order that depends on the epoch alone.
        losses: the raw loss terms of a batch; draws only from torch's global generator, seeded anew each iteration.
        weights: the weight of each term.
        names: the images of a batch, for messages.
        after_epoch: called with (epoch, iteration) when an epoch ends, e.g. to measure test losses.
    """

    batches: Callable[[int], Iterable[Batch]]
    losses: Callable[[Batch], Mapping[str, Tensor]]
    weights: Mapping[str, float]
    names: Callable[[Batch], Sequence[str]]
    after_epoch: Callable[[int, int], None]


@dataclass(frozen=True)
class Data(Generic[Batch]):
    """What `train` learns from and is tested on.

    Attributes:
        train: the batches of an epoch, in an order that depends on the epoch alone.
        test: the batches on which losses are measured after each epoch.
        losses: the raw loss terms of a batch; draws only from torch's global generator.
        weights: the weight of each term.
        names: the images of a batch, for messages.
    """

    train: Callable[[int], Iterable[Batch]]
    test: Callable[[], Iterable[Batch]]
    losses: Callable[[Batch], Mapping[str, Tensor]]
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

    def summary(self) -> dict[str, Any]:
        """How long it trained, and the test losses at the end."""
        last = self.test_history.rows[-1] if self.test_history.rows else {}
        return {
            "iterations": self.iteration,
            "test": {name: value for name, value in last.items() if name != "iteration"},
        }

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


def train(
    fabric: Fabric, model: nn.Module, schedule: Schedule, data: Data[Batch], where: tuple[Path, Checkpoint]
) -> Progress:
    """Trains `model` with test losses after each epoch; histories go to `train.csv` and `test.csv` in a folder.

    Args:
        fabric: device and precision.
        model: what learns; its losses are measured in evaluation mode on the test batches.
        schedule: how long and how fast.
        data: batches, losses and weights.
        where: the folder of the histories, and the checkpoint.

    Returns:
        The finished training, with both histories' rows.
    """
    folder, checkpoint = where
    progress = start(model, schedule, History(folder / "train.csv"), History(folder / "test.csv"))

    def after_epoch(_: int, iteration: int) -> None:
        progress.test_history.append({"iteration": iteration, **mean_losses(fabric, model, data, schedule.seed)})

    task = Task(data.train, data.losses, data.weights, data.names, after_epoch)
    fit(fabric, schedule, task, progress, checkpoint)
    progress.history.close()
    progress.test_history.close()
    return progress


@torch.no_grad()
def mean_losses(fabric: Fabric, model: nn.Module, data: Data[Batch], seed: int) -> Row:
    """Losses of the test batches, a mean over them, without learning; the same draws every time."""
    model.eval()
    torch.manual_seed(derive_seed(seed))
    rows = []
    for batch in data.test():
        with fabric.autocast():
            rows.append(loss_row(data.losses(batch), data.weights))
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]} if rows else {}


def fit(fabric: Fabric, schedule: Schedule, task: Task[Batch], progress: Progress, checkpoint: Checkpoint) -> None:
    """Trains from the last checkpoint, if there is one, to the schedule's end.

    An iteration's random draws depend on the seed and its number alone, so a resumed run equals an undisturbed one.

    Raises:
        InputError: a loss is not finite; the last checkpoint stays.
    """
    if state := checkpoint.load():
        progress.restore(state)
    bar = tqdm(total=schedule.epochs * schedule.steps, initial=progress.iteration, desc=schedule.name, unit="step")
    saved = time.monotonic()
    while progress.iteration < schedule.epochs * schedule.steps:
        epoch, done = divmod(progress.iteration, schedule.steps)
        for batch in itertools.islice(task.batches(epoch), done, None):
            row = _step(fabric, schedule, task, progress, batch)
            bar.set_postfix(loss=f"{row['total']:.3f}", refresh=False)
            bar.update()
            if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS and progress.iteration % schedule.steps:
                checkpoint.save(progress.state())
                saved = time.monotonic()
        task.after_epoch(epoch, progress.iteration)
        checkpoint.save(progress.state())
    bar.close()


def _step(fabric: Fabric, schedule: Schedule, task: Task[Batch], progress: Progress, batch: Batch) -> Row:
    """One iteration: losses in mixed precision, gradients clipped, weights and learning rate moved on, row written."""
    torch.manual_seed(derive_seed(schedule.seed, progress.iteration))
    progress.model.train()
    with fabric.autocast():
        terms = task.losses(batch)
    row = loss_row(terms, task.weights)
    check_finite(row, progress.iteration, task.names(batch))
    progress.optimizer.zero_grad(set_to_none=True)
    weighted_sum(terms, task.weights).backward()
    nn.utils.clip_grad_norm_(progress.model.parameters(), LARGEST_GRADIENT_NORM)
    progress.optimizer.step()
    progress.scheduler.step()
    progress.iteration += 1
    epoch = (progress.iteration - 1) // schedule.steps
    progress.history.append({"iteration": progress.iteration, "epoch": epoch + 1, **row})
    return row

"""The training loop that all trainings share: batches to losses to steps, with history and checkpoints.

What is trained is a module whose `forward` returns its raw loss terms; what differs besides (data, weights) comes in as
a `Training`. Nothing is looked up by name.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from src.core.runtime import derive_seed
from src.training.across import LossesOf, names_of_all, of_the_whole
from src.training.checkpoint import Checkpoint
from src.training.gradients import GradientProbe
from src.training.history import History, Row, check_finite, loss_row, open_histories, weighted_sum
from src.training.optimizer import make_optimizer
from src.training.schedule import Schedule
from src.training.selection import Best

Batch = TypeVar("Batch")
SECONDS_BETWEEN_CHECKPOINTS = 60.0
LARGEST_GRADIENT_NORM = 10.0


@dataclass(frozen=True)
class Training(Generic[Batch]):
    """What a module learns from and is tested on.

    Attributes:
        train: the batches of an epoch, in an order that depends on the epoch alone.
        steps: how many they are.
        test: the batches on which losses are measured after each epoch.
        arguments: what the module's `forward` takes of a batch. It draws from the generators that come with the images,
            or from torch's global one, which is seeded anew in each iteration.
        weights: the weight of each loss term.
        names: the images of a batch, for messages.
        is_spare: whether another process learns from the batch, and this one only computes along.
        validation: the batches by whose loss weights are chosen, measured after each epoch too.
        gradients: where the terms' gradients are compared now and then, if anywhere.
        measure_start: measure before the first step too, as iteration 0.
    """

    train: Callable[[int], Iterable[Batch]]
    steps: int
    test: Callable[[], Iterable[Batch]]
    arguments: Callable[[Batch], Sequence[Any]]
    weights: Mapping[str, float]
    names: Callable[[Batch], Sequence[str]]
    is_spare: Callable[[Batch], bool] = lambda _: False
    validation: Callable[[], Iterable[Batch]] | None = None
    gradients: GradientProbe | None = None
    measure_start: bool = False

    @property
    def histories(self) -> list[str]:
        """The names of its csv files."""
        measured = {"validation": self.validation, "gradients": self.gradients}
        return ["train", "test", *(name for name, there in measured.items() if there)]


@dataclass
class Progress:
    """Everything that a resumed training needs beside the model's weights.

    Attributes:
        model: what is trained.
        learner: `model`'s losses, as all processes learn from them together.
        optimizer: its optimizer.
        scheduler: of the learning rate.
        histories: `train`, `test`, and what else the training measures.
        iteration: the next one to run, counted from 0.
        best: the lowest validation loss so far, and where it was.
    """

    model: nn.Module
    learner: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    histories: Mapping[str, History]
    iteration: int = 0
    best: Best = field(default_factory=Best)

    def rows(self) -> dict[str, list[Row]]:
        """All histories' rows."""
        return {name: history.rows for name, history in self.histories.items()}

    def state(self) -> dict[str, Any]:
        """The tree that `restore` takes."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "rows": self.rows(),
            "iteration": self.iteration,
            "best": self.best.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Puts everything back as it was when `state` was taken; the histories have its rows already."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.iteration = state["iteration"]
        self.best = Best(**state["best"])

    def finish(self) -> None:
        """Goes back to the best weights, where those are kept, and closes the histories' files."""
        if self.best.weights is not None:
            self.model.load_state_dict(self.best.weights)
        for history in self.histories.values():
            history.close()


def start(
    fabric: Fabric,
    model: nn.Module,
    schedule: Schedule,
    weights: Mapping[str, float],
    histories: Mapping[str, History],
) -> Progress:
    """A training at its first iteration."""
    model.zero_grad()  # what an earlier phase left would count in the clipping
    optimizer, scheduler = make_optimizer(
        model,
        learning_rate=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
        slower=schedule.slower,
        steps=schedule.iterations,
    )
    # Not `fabric.setup`: its wrapper copies arguments field by field, which frozen dataclasses do not allow.
    learner = fabric.strategy.setup_module(LossesOf(model, weights))
    return Progress(model, learner, optimizer, scheduler, histories)


def fit(
    fabric: Fabric,
    model: nn.Module,
    schedule: Schedule,
    training: Training[Batch],
    *,
    histories: Path,
    checkpoint: Checkpoint,
    after: Mapping[str, Sequence[Row]] | None = None,
) -> Progress:
    """Trains `model` from the last checkpoint, if there is one, to the schedule's end.

    Losses of the test batches, and of the validation batches if there are any, are measured after each epoch. An
    iteration's random draws depend on the seed and its number alone, so a resumed run equals an undisturbed one.

    Args:
        fabric: devices and precision; each process calls this, the first one keeps histories and checkpoints.
        model: `model(*arguments)` gives its raw loss terms.
        schedule: how long and how fast.
        training: batches and weights.
        histories: the folder of `train.csv`, `test.csv` and what else the training measures.
        checkpoint: where the state is saved, and resumed from.
        after: the histories of the phase of the same training that came before, which go on.

    Returns:
        The finished training, with all histories' rows.

    Raises:
        InputError: a loss is not finite; the last checkpoint stays.
    """
    state = checkpoint.load()
    rows = state["rows"] if state else after or {}
    opened = open_histories(histories if fabric.is_global_zero else None, training.histories, rows)
    progress = start(fabric, model, schedule, training.weights, opened)
    if state:
        progress.restore(state)
    elif training.measure_start and after is None:
        _measure(fabric, schedule, training, progress)
    with _bar(fabric, schedule, progress) as bar:
        while progress.iteration < schedule.iterations and not progress.best.is_old(progress.iteration, schedule):
            _epoch(fabric, schedule, training, progress, checkpoint, bar)
            _measure(fabric, schedule, training, progress)
            _save(fabric, checkpoint, progress)
    progress.finish()
    return progress


def _bar(fabric: Fabric, schedule: Schedule, progress: Progress) -> tqdm:
    """The steps that are done; only the first process shows them."""
    total, done, hidden = schedule.iterations, progress.iteration, not fabric.is_global_zero
    return tqdm(total=total, initial=done, desc=schedule.name, unit="step", disable=hidden)


def _measure(fabric: Fabric, schedule: Schedule, training: Training[Batch], progress: Progress) -> None:
    """Adds a row of what the test batches lose, and of what the validation batches do."""
    for name, batches in (("test", training.test), ("validation", training.validation)):
        if batches is None:
            continue
        losses = mean_losses(fabric, progress.model, training, batches(), schedule.seed)
        progress.histories[name].append({"iteration": schedule.first_iteration + progress.iteration, **losses})
        if name == "validation":
            progress.best.offer(losses["total"], progress.iteration, progress.model if schedule.keep_best else None)


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
    for batch in itertools.islice(training.train(schedule.first_epoch + epoch), done, None):
        row = _step(fabric, schedule, training, progress, batch)
        bar.set_postfix(loss=f"{row['total']:.3f}", refresh=False)
        bar.update()
        if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS and progress.iteration % schedule.steps:
            _save(fabric, checkpoint, progress)
            saved = time.monotonic()


def _save(fabric: Fabric, checkpoint: Checkpoint, progress: Progress) -> None:
    """Keeps the state, which is the same in all processes."""
    if fabric.is_global_zero:
        checkpoint.save(progress.state())


def _step(fabric: Fabric, schedule: Schedule, training: Training[Batch], progress: Progress, batch: Batch) -> Row:
    """One iteration: losses in mixed precision, gradients clipped, weights and learning rate moved on, rows written."""
    iteration = schedule.first_iteration + progress.iteration
    torch.manual_seed(derive_seed(schedule.seed, iteration))
    progress.model.train()
    with fabric.autocast():
        terms, counts = progress.learner(training.arguments(batch))
    terms, raw = of_the_whole(fabric, terms, counts, is_spare=training.is_spare(batch))
    row = loss_row(raw, training.weights)
    check_finite(row, iteration, lambda: names_of_all(fabric, training.names(batch)))
    if training.gradients and training.gradients.is_due(progress.iteration):
        shares = training.gradients.measure(terms, training.weights, fabric.strategy.all_reduce)
        progress.histories["gradients"].append({"iteration": iteration + 1, **shares})
    progress.optimizer.zero_grad(set_to_none=True)
    total = weighted_sum(terms, training.weights)
    if total.requires_grad:  # not where all weights are 0
        fabric.backward(total)
    nn.utils.clip_grad_norm_(progress.model.parameters(), LARGEST_GRADIENT_NORM)
    progress.optimizer.step()
    progress.scheduler.step()
    progress.iteration += 1
    epoch = schedule.first_epoch + (progress.iteration - 1) // schedule.steps
    progress.histories["train"].append({"iteration": iteration + 1, "epoch": epoch + 1, **row})
    return row


@torch.no_grad()
def mean_losses(
    fabric: Fabric, model: nn.Module, training: Training[Batch], batches: Iterable[Batch], seed: int
) -> Row:
    """Losses of some batches, a mean over them, without learning; the same draws every time."""
    model.eval()
    torch.manual_seed(derive_seed(seed))
    losses, rows = LossesOf(model, training.weights), []
    for batch in batches:
        with fabric.autocast():
            terms, counts = losses(training.arguments(batch))
        _, raw = of_the_whole(fabric, terms, counts, is_spare=training.is_spare(batch))
        rows.append(loss_row(raw, training.weights))
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]} if rows else {}

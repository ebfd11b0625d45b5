"""How long a training lasts, how fast it learns, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


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
    """How long and how fast: `epochs` of `steps` iterations, AdamW under a one-cycle learning rate.

    Where the training has validation batches, it may end early, and go back to the weights that lost least on them.

    Attributes:
        name: of the progress bar.
        epochs: how often all batches are seen.
        steps: batches per epoch.
        learning_rate: the cycle's peak.
        weight_decay: of matrices.
        seed: of all draws.
        first_epoch: epochs that an earlier phase of the same training has made.
        slower: prefix of parameters' names: their share of the learning rate.
        keep_best: keep the weights of the epoch with the lowest validation loss, not the last ones.
        patience: epochs without a lower validation loss after which the training ends; 0: it goes on.
    """

    name: str
    epochs: int
    steps: int
    learning_rate: float
    weight_decay: float
    seed: int
    first_epoch: int = 0
    slower: Mapping[str, float] = field(default_factory=dict)
    keep_best: bool = False
    patience: int = 0

    @property
    def iterations(self) -> int:
        """Of all epochs."""
        return self.epochs * self.steps

    @property
    def first_iteration(self) -> int:
        """How many iterations earlier phases have made."""
        return self.first_epoch * self.steps

    @classmethod
    def from_params(cls, name: str, options: Options, steps: int) -> Schedule:
        """The schedule of a section of params; `steps` iterations per epoch."""
        return cls(name, options.epochs, steps, options.learning_rate, options.weight_decay, options.seed)

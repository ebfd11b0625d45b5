"""Which weights of a training are kept, and when it may end: by the loss of pictures that it does not learn from."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from src.training.schedule import Schedule


@dataclass
class Best:
    """The lowest validation loss so far.

    Attributes:
        loss: the weighted sum of the terms; infinite before the first measurement.
        iteration: after which it was measured.
        weights: the model's then, where they are to be kept.
    """

    loss: float = math.inf
    iteration: int = 0
    weights: dict[str, Tensor] | None = None

    def offer(self, loss: float, iteration: int, model: nn.Module | None) -> None:
        """Takes a new measurement if it is lower; with a copy of the model's weights, if a model is given."""
        if loss < self.loss:
            kept = None if model is None else {name: value.clone() for name, value in model.state_dict().items()}
            self.loss, self.iteration, self.weights = loss, iteration, kept

    def is_old(self, iteration: int, schedule: Schedule) -> bool:
        """Whether `schedule.patience` epochs have passed since; never with a patience of 0."""
        return 0 < schedule.patience * schedule.steps <= iteration - self.iteration

    def state(self) -> dict[str, Any]:
        """The tree that makes it anew."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

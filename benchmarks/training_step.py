"""A training step without its history, of whatever detector."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from src.training.history import weighted_sum
from src.training.loop import LARGEST_GRADIENT_NORM


def step(model: nn.Module, optimizer: torch.optim.Optimizer, terms: Mapping[str, Tensor]) -> None:
    """One training step from its loss terms as `src.training.loop` makes it, without history; all weights are 1."""
    optimizer.zero_grad(set_to_none=True)
    weighted_sum(terms, dict.fromkeys(terms, 1.0)).backward()
    nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT_NORM)
    optimizer.step()

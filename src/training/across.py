"""Loss terms of a minibatch that several processes learn from, put together as if one had learned from all of it.

Each term is a mean over what was sampled, and processes sample different numbers. So each process weighs its own by its
count, times the number of processes over the count of all: the mean over processes, which DistributedDataParallel takes
of the gradients, is then the gradient of the whole minibatch's mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed, nn

from src.core.processes import Share
from src.structures.loss_term import LossTerm

Terms = dict[str, Tensor]


class LossesOf(nn.Module):
    """What DistributedDataParallel wraps: a model's loss terms, without a graph where they have no weight.

    It waits for the gradient of whatever its outputs reach.

    Args:
        model: `model(*arguments)` gives its loss terms.
        weights: of each.
    """

    def __init__(self, model: nn.Module, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.model, self.weights = model, weights

    def forward(self, arguments: Sequence[Any]) -> tuple[Terms, dict[str, int]]:
        """Raw terms and their counts, by name."""
        terms: dict[str, LossTerm] = self.model(*arguments)
        values = {name: term.value if self.weights[name] else term.value.detach() for name, term in terms.items()}
        return values, {name: term.count for name, term in terms.items()}


def names_of_all(fabric: Fabric, names: Sequence[str]) -> list[str]:
    """The images of the whole minibatch, spares once; every process calls this."""
    if fabric.world_size == 1:
        return list(names)
    found: list[list[str]] = [[]] * fabric.world_size
    distributed.all_gather_object(found, list(names))
    return sorted({name for part in found for name in part})


def share_of(fabric: Fabric) -> Share:
    """What this process takes of each minibatch."""
    return Share(fabric.global_rank, fabric.world_size)


def of_the_whole(
    fabric: Fabric, terms: Terms, counts: Mapping[str, int], *, is_spare: bool
) -> tuple[Terms, dict[str, float]]:
    """This process's terms as parts of the whole minibatch's, and the values of those.

    Args:
        fabric: its processes.
        terms: raw, of this process's share.
        counts: what each is a mean over.
        is_spare: the share is another process's, and counts for nothing here.

    Returns:
        The terms with their graphs, weighed such that their mean over the processes is the whole's; the whole's values.
    """
    raw = torch.stack([term.detach().float() for term in terms.values()])
    if fabric.world_size == 1:
        return terms, dict(zip(terms, raw.tolist(), strict=True))
    own = torch.tensor([0.0 if is_spare else float(counts[name]) for name in terms], device=raw.device)
    shared = torch.stack([own * raw, own]).to(fabric.device)  # part (a)'s losses are the processor's
    sums, total = fabric.strategy.all_reduce(shared, reduce_op="sum").to(raw.device).unbind()
    total = total.clamp(min=1)
    parts = (own * (fabric.world_size / total)).unbind()
    whole = {name: part * term for part, (name, term) in zip(parts, terms.items(), strict=True)}
    return whole, dict(zip(terms, (sums / total).tolist(), strict=True))

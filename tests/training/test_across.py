"""Shares of a minibatch put together: the terms and gradients of the whole, whatever each process has sampled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from src.structures.loss_term import LossTerm
from src.training.across import LossesOf, of_the_whole, share_of


class Squares(nn.Module):
    """Two means over different numbers of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, -2.0]))

    def forward(self, first: Tensor, second: Tensor) -> dict[str, LossTerm]:
        terms = {"first": first, "second": second}
        return {
            name: LossTerm((rows @ self.weight).square().sum() / max(len(rows), 1), len(rows))
            for name, rows in terms.items()
        }


def processes(shares: list[tuple[Tensor, Tensor]], spare: set[int], weights: Mapping[str, float]) -> list[Any]:
    """What each process makes of its share: its terms with their graphs, and the whole's values."""
    model = Squares()
    terms = [LossesOf(model, weights)(share) for share in shares]
    fabric = create_autospec(Fabric, instance=True, world_size=len(shares), device=torch.device("cpu"))
    handed: list[Tensor] = []

    def hand(tensor: Tensor, reduce_op: str) -> Tensor:
        assert reduce_op == "sum"
        handed.append(tensor)
        return tensor

    fabric.strategy.all_reduce = hand
    for rank, one in enumerate(terms):
        of_the_whole(fabric, *one, is_spare=rank in spare)
    total = torch.stack(handed).sum(0)
    fabric.strategy.all_reduce = lambda tensor, reduce_op: total
    found = [of_the_whole(fabric, *one, is_spare=rank in spare) for rank, one in enumerate(terms)]
    return [model, *found]


@pytest.mark.parametrize(
    ("sizes", "spare"), [([(3, 2), (1, 4)], set()), ([(2, 0), (5, 3), (0, 1)], set()), ([(4, 2), (7, 7)], {1})]
)
def test_the_mean_over_processes_is_the_whole_s(sizes: list[tuple[int, int]], spare: set[int]) -> None:
    draw = torch.Generator().manual_seed(0)
    shares = [tuple(torch.randn(size, 2, generator=draw) for size in pair) for pair in sizes]
    model, *found = processes(shares, spare, {"first": 1.0, "second": 0.5})  # type: ignore[arg-type]
    learned = [share for rank, share in enumerate(shares) if rank not in spare]
    whole = {name: term.value for name, term in model(*map(torch.cat, zip(*learned, strict=True))).items()}
    for _, values in found:
        assert values == pytest.approx({name: float(value.detach()) for name, value in whole.items()})
    mean = sum(terms["first"] + 0.5 * terms["second"] for terms, _ in found) / len(found)
    (gradient,) = torch.autograd.grad(mean, model.weight)
    (expected,) = torch.autograd.grad(whole["first"] + 0.5 * whole["second"], model.weight)
    torch.testing.assert_close(gradient, expected)


def test_nothing_sampled_anywhere_is_zero() -> None:
    none = torch.zeros(0, 2)
    _, *found = processes([(none, none)] * 2, set(), {"first": 1.0, "second": 1.0})
    assert [values for _, values in found] == [{"first": 0.0, "second": 0.0}] * 2


def test_a_term_without_weight_keeps_no_graph() -> None:
    """DDP would wait for its gradients."""
    values, counts = LossesOf(Squares(), {"first": 0.0, "second": 1.0})((torch.ones(2, 2), torch.ones(3, 2)))
    assert not values["first"].requires_grad
    assert values["second"].requires_grad
    assert counts == {"first": 2, "second": 3}


def test_one_process_has_its_terms_as_they_are() -> None:
    fabric = create_autospec(Fabric, instance=True, world_size=1, global_rank=0)
    terms = {"first": torch.tensor(1.5, requires_grad=True), "second": torch.tensor(0.25, dtype=torch.bfloat16)}
    found, values = of_the_whole(fabric, terms, {"first": 3, "second": 0}, is_spare=False)
    assert found is terms
    assert values == {"first": 1.5, "second": 0.25}
    assert share_of(fabric).take([1, 2, 3]) == ([1, 2, 3], False)

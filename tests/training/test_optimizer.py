"""AdamW under a one-cycle rate: which parameters learn at which rate, and which of them decay."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from src.training.optimizer import make_optimizer

RATE, DECAY = 0.05, 0.01


class Net(nn.Module):
    """A body under a neck, and a parameter that learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8))
        self.neck = nn.Linear(8, 2)
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)

    def forward(self, seen: Tensor) -> Tensor:
        return (self.neck(self.body(seen)) @ self.frozen).square().mean()


def net() -> Net:
    torch.manual_seed(1)
    return Net()


def made(model: nn.Module, slower: Mapping[str, float] | None = None, steps: int = 20) -> tuple[Optimizer, LRScheduler]:
    return make_optimizer(model, learning_rate=RATE, weight_decay=DECAY, slower=slower or {}, steps=steps)


def train(model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler, steps: int) -> dict[str, Tensor]:
    """The weights after some steps."""
    for number in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 3, generator=torch.Generator().manual_seed(number))).backward()
        optimizer.step()
        scheduler.step()
    return model.state_dict()


def names_of(model: nn.Module, optimizer: Optimizer) -> list[set[str]]:
    """Names of the parameters of each group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [{names[id(parameter)] for parameter in group["params"]} for group in optimizer.param_groups]


def test_frozen_parameters_are_left_out_and_vectors_do_not_decay() -> None:
    model = net()
    optimizer, _ = made(model)
    matrices = {"body.0.weight", "neck.weight"}
    assert names_of(model, optimizer) == [matrices, {"body.0.bias", "body.1.weight", "body.1.bias", "neck.bias"}]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [DECAY, 0.0]


def test_slower_parts_have_groups_of_their_own() -> None:
    model = net()
    optimizer, scheduler = made(model, {"body.": 0.1})
    slow = [{"body.0.weight"}, {"body.0.bias", "body.1.weight", "body.1.bias"}]
    assert names_of(model, optimizer) == [{"neck.weight"}, {"neck.bias"}, *slow]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [DECAY, 0.0] * 2
    for _ in range(20):
        full, *others = scheduler.get_last_lr()
        assert others == pytest.approx([full, 0.1 * full, 0.1 * full])
        optimizer.step()
        scheduler.step()


def test_groups_of_the_full_rate_stand_first_even_where_all_is_slower() -> None:
    model = net()
    model.neck.requires_grad_(False)
    optimizer, _ = made(model, {"body.": 0.5})
    assert [len(names) for names in names_of(model, optimizer)] == [0, 0, 1, 3]


def test_a_slower_part_that_does_not_learn_has_no_group() -> None:
    model = net()
    model.body.requires_grad_(False)
    optimizer, _ = made(model, {"body.": 0.1})
    assert names_of(model, optimizer) == [{"neck.weight"}, {"neck.bias"}]


def test_a_slower_part_moves_by_its_share() -> None:
    """AdamW's first step is the rate's size, whatever the gradient's."""
    before = net().state_dict()
    model = net()
    weights = train(model, *made(model, {"body.": 0.1}), steps=1)
    moved = {name: float((weights[name] - before[name]).abs().mean()) for name in ("body.0.bias", "neck.bias")}
    assert moved["body.0.bias"] == pytest.approx(0.1 * moved["neck.bias"], rel=0.01)


@pytest.mark.parametrize("slower", [{}, {"elsewhere.": 0.1}, {"body.": 1.0}])
def test_where_nothing_is_slower_it_is_plain_adamw_in_one_cycle(slower: dict[str, float]) -> None:
    """But for the rounding of its one pass over memory."""
    model = net()
    plain = copy.deepcopy(model)
    learning = [parameter for parameter in plain.parameters() if parameter.requires_grad]
    matrices = {"params": [one for one in learning if one.ndim > 1], "weight_decay": DECAY}
    vectors = {"params": [one for one in learning if one.ndim <= 1], "weight_decay": 0.0}
    optimizer = AdamW([matrices, vectors], lr=RATE, foreach=False)
    cycle = OneCycleLR(optimizer, RATE, total_steps=20, pct_start=0.2)
    expected = train(plain, optimizer, cycle, 20)
    found = train(model, *made(model, slower), steps=20)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    assert (found["neck.weight"] - net().neck.weight).abs().mean() > 0.01


@pytest.mark.parametrize("steps", [5, 6, 50])
def test_the_rate_rises_to_its_peak_and_falls(steps: int) -> None:
    optimizer, scheduler = made(net(), steps=steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    peak = found.index(max(found))
    assert 0 < peak <= 0.35 * steps
    assert max(found) == pytest.approx(RATE, rel=0.1)
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert found[-1] < 0.01 * RATE


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 5, 6, 7, 10, 25])
def test_any_number_of_steps_has_a_schedule(steps: int) -> None:
    model = net()
    weights = train(model, *made(model, {"body.": 0.1}, steps), steps=steps)
    assert all(value.isfinite().all() for value in weights.values())

"""Each loss's share of the gradient on shared layers, against backward passes of each term alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import Tensor, nn

from src.data.prepared import Example, PreparedFile
from src.detector.backbones import set_trainable_layers
from src.training.gradients import GradientProbe
from src.training.history import weighted_sum
from tests.detector.dense import TERMS, in_joint_training, losses, small_detector
from tests.factories import make_prepared

SEEN = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
WEIGHTS = {"near": 2.0, "far": 0.5, "apart": 3.0, "given": 1.0}
NAMES = list(WEIGHTS)


class Net(nn.Module):
    """Two heads over a trunk, one beside it, and a loss that is a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6))
        self.near, self.far, self.apart = (nn.Linear(6, 1) for _ in range(3))

    def forward(self, seen: Tensor) -> dict[str, Tensor]:
        features = self.trunk(seen)
        return {
            "near": (self.near(features) - 1).square().mean(),
            "far": self.far(features.tanh()).abs().mean(),
            "apart": self.apart(features.detach()).square().mean(),
            "given": seen.square().mean(),
        }


@pytest.fixture
def net() -> Net:
    torch.manual_seed(1)
    return Net()


def norms_apart(net: nn.Module, part: str, terms: Mapping[str, float]) -> dict[str, float]:
    """The gradient's norm on a part, from one forward and backward pass for each weighted term alone."""
    norms = {}
    for name, weight in terms.items():
        one = copy.deepcopy(net)
        term = weight * one(SEEN)[name]
        if term.requires_grad:
            term.backward()
        found = [value.grad.flatten() for value in one.get_submodule(part).parameters() if value.grad is not None]
        norms[name] = float(torch.cat([torch.zeros(1), *found]).norm())
    return norms


def probe_of(part: nn.Module, interval: int = 1) -> GradientProbe:
    return GradientProbe(list(part.parameters()), interval)


@pytest.mark.parametrize(
    "weights",
    [WEIGHTS, {**WEIGHTS, "near": 0.0}, {**WEIGHTS, "far": 100.0}, dict.fromkeys(WEIGHTS, 1.0)],
)
def test_norms_and_shares_are_those_of_each_term_alone(net: Net, weights: dict[str, float]) -> None:
    row = probe_of(net.trunk).measure(net(SEEN), weights)
    expected = norms_apart(net, "trunk", weights)
    assert list(row) == [*NAMES, *(f"{name}_norm" for name in NAMES)]
    assert [row[f"{name}_norm"] for name in NAMES] == pytest.approx(list(expected.values()), rel=1e-5)
    whole = sum(expected.values())
    assert [row[name] for name in NAMES] == pytest.approx([norm / whole for norm in expected.values()], rel=1e-5)
    assert sum(row[name] for name in NAMES) == pytest.approx(1.0)


def test_what_does_not_reach_the_shared_layers_counts_nothing(net: Net) -> None:
    row = probe_of(net.trunk).measure(net(SEEN), WEIGHTS)
    assert (row["apart"], row["apart_norm"], row["given"], row["given_norm"]) == (0.0, 0.0, 0.0, 0.0)
    assert row["near"] > 0 < row["far"]
    alone = probe_of(net.apart).measure(net(SEEN), WEIGHTS)
    assert [alone[name] for name in NAMES] == [0.0, 0.0, 1.0, 0.0]


def test_where_nothing_pulls_there_are_no_shares(net: Net) -> None:
    row = probe_of(net.trunk).measure(net(SEEN), dict.fromkeys(WEIGHTS, 0.0))
    assert set(row.values()) == {0.0}


def test_parameters_that_stand_still_do_not_count(net: Net) -> None:
    net.trunk[0].requires_grad_(False)
    row = probe_of(net.trunk).measure(net(SEEN), WEIGHTS)
    expected = norms_apart(net, "trunk.2", WEIGHTS)
    assert [row[f"{name}_norm"] for name in NAMES] == pytest.approx(list(expected.values()), rel=1e-5)


def test_nothing_is_accumulated(net: Net) -> None:
    terms = net(SEEN)
    probe_of(net.trunk).measure(terms, WEIGHTS)
    assert all(parameter.grad is None for parameter in net.parameters())
    weighted_sum(terms, WEIGHTS).backward()  # the graph is still there
    gradients = {name: value.grad.clone() for name, value in net.named_parameters()}
    probe_of(net.trunk).measure(net(SEEN), WEIGHTS)
    assert all(torch.equal(value.grad, gradients[name]) for name, value in net.named_parameters())


@pytest.mark.parametrize(("interval", "due"), [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6]), (25, [0]), (0, [])])
def test_it_is_due_at_its_interval(net: Net, interval: int, due: list[int]) -> None:
    probe = probe_of(net.trunk, interval)
    assert [number for number in range(7) if probe.is_due(number)] == due


def test_it_is_not_due_where_the_shared_layers_stand_still(net: Net) -> None:
    probe = probe_of(net.trunk)
    net.trunk.requires_grad_(False)
    assert not probe.is_due(0)
    net.trunk[2].requires_grad_(True)
    assert probe.is_due(0)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Example]]:
    with PreparedFile(make_prepared(tmp_path_factory.mktemp("gradients"), 2)) as prepared:
        yield [prepared.example(index) for index in range(2)]


def test_all_five_losses_of_the_detector_pull_at_its_backbone(examples: list[Example]) -> None:
    net = in_joint_training(small_detector(), box_batch_size_per_image=16)
    set_trainable_layers(net.backbone.body, 1)
    weights = dict(zip(TERMS, (1.0, 2.0, 0.5, 4.0, 1.5), strict=True))
    row = probe_of(net.backbone).measure(losses(net, examples), weights)
    norms = []
    for name in TERMS:
        net.zero_grad()
        (weights[name] * losses(net, examples)[name]).backward()
        found = [value.grad.flatten() for value in net.backbone.parameters() if value.grad is not None]
        norms.append(float(torch.cat(found).double().norm()))
    assert min(norms) > 0
    assert [row[f"{name}_norm"] for name in TERMS] == pytest.approx(norms, rel=1e-4)
    assert [row[name] for name in TERMS] == pytest.approx([norm / sum(norms) for norm in norms], rel=1e-4)

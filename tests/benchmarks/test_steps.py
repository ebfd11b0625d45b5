"""The implementations of training steps and inference do the same work."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import nn

from benchmarks import steps
from benchmarks.interleaved import run_interleaved
from src.core.params import Params
from src.core.params_file import load_params
from src.core.runtime import precision_name
from src.plain_rpn.network import PlainRpnNetwork
from src.structures.detections import Detections

pytestmark = pytest.mark.usefixtures("under_bf16")

Taken = list[tuple[nn.Module, list[str]]]  # of each step the model and the names of its loss terms


def test_part_a_written_plainly_is_the_same_network() -> None:
    network = PlainRpnNetwork(2)
    plain = steps.written_plainly(copy.deepcopy(network))
    layers = [type(module) for module in plain.backbone.modules()]
    assert layers.count(nn.ReLU) == 5
    pools = [place for place, layer in enumerate(layers) if layer is nn.MaxPool2d]
    assert [layers[place - 1] for place in pools] == [nn.ReLU] * 4
    images = torch.randn(1, 3, 48, 64)
    for found, expected in zip(plain(images), network(images), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    """The steps as they are taken."""
    noted: Taken = []
    take = steps.step

    def noting(model: nn.Module, optimizer: torch.optim.Optimizer, terms: dict[str, torch.Tensor]) -> None:
        noted.append((model, sorted(terms)))
        take(model, optimizer, terms)

    monkeypatch.setattr(steps, "step", noting)
    return noted


def learns(call: Callable[[], object], taken: Taken) -> tuple[list[str], int]:
    """The loss terms of a call's steps and how many steps they were; every trainable matrix must have moved."""
    del taken[:]
    call()
    model = taken[0][0]
    before = {name: value.clone() for name, value in model.named_parameters() if value.requires_grad}
    assert before
    steps_a_call = len(taken)
    call()
    still = [name for name, value in model.named_parameters() if name in before and torch.equal(value, before[name])]
    assert [name for name in still if model.get_parameter(name).ndim > 1] == []
    assert {tuple(terms) for _, terms in taken} == {tuple(taken[0][1])}
    return taken[0][1], steps_a_call


def test_part_a_learns_in_every_implementation(finished: Params, taken: Taken) -> None:
    case = steps.part_a_step(finished)
    assert "one picture of 96x160" in case.conditions
    rows = []
    for call in case.implementations.values():
        assert learns(call, taken) == (["objectness", "rpn_regression"], 1)
        weight = taken[0][0].network.backbone[0][0].weight
        rows.append(weight.is_contiguous(memory_format=torch.channels_last))
    assert rows == [True, False, False]


def test_pictures_of_the_plain_implementation_are_planes(finished: Params) -> None:
    batch = steps.examples("train", 2)
    assert len(batch) == 2
    normalization = steps.Normalization.from_params(finished.prepare)
    rows, planes = (
        kind(normalization, torch.device("cpu")).images(batch) for kind in (steps.Batcher, steps.ContiguousBatcher)
    )
    assert planes.tensors.is_contiguous()
    assert not rows.tensors.is_contiguous()
    assert torch.equal(rows.tensors, planes.tensors)


@pytest.mark.parametrize("masks", [False, True])
def test_heads_learn_in_every_implementation(
    finished: Params, taken: Taken, under_bf16: list[bool], masks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "VIEWS", 6)
    case = steps.head_training(finished, masks=masks)
    ours, *baselines = case.implementations
    mask = ["mask"] if masks else []
    terms, count = learns(case.implementations[ours], taken)
    assert terms == ["box_regression", "classification", *mask]
    assert count == 2  # of four images and of two
    assert case.images == {ours: 6, **dict.fromkeys(baselines, steps.IMAGES)}
    theirs = ["loss_box_reg", "loss_classifier", *(f"loss_{name}" for name in mask)]
    for name in baselines:
        del under_bf16[:]
        found, count = learns(case.implementations[name], taken)
        assert ([term for term in found if term in theirs], count) == (theirs, 1)
        assert bool(under_bf16) == ("bf16" in name)


def test_joint_training_teaches_all_but_the_body_in_every_implementation(
    finished: Params, taken: Taken, under_bf16: list[bool]
) -> None:
    case = steps.joint_training(finished)
    ours, *baselines = case.implementations
    assert ours == f"ours, {precision_name(finished.runtime)}"
    assert learns(case.implementations[ours], taken) == (
        ["box_regression", "classification", "mask", "objectness", "rpn_regression"],
        1,
    )
    learning = {name.split(".")[0] for name, value in taken[0][0].named_parameters() if value.requires_grad}
    assert learning == {"backbone", "rpn", "roi_heads"}
    for name in baselines:
        del under_bf16[:]
        found, count = learns(case.implementations[name], taken)
        assert (len(found), count) == (5, 1)
        assert bool(under_bf16) == ("bf16" in name)
        learners = dict(taken[0][0].named_parameters())
        assert not any(value.requires_grad for key, value in learners.items() if key.startswith("backbone.body"))
        assert all(value.requires_grad for key, value in learners.items() if not key.startswith("backbone.body"))


def test_inference_agrees_with_torchvision(finished: Params, under_bf16: list[bool]) -> None:
    case = steps.inference(finished)
    assert case.agreement.startswith("in float32, ")
    assert "labels alike" in case.agreement
    names = ["ours, bf16", "torchvision, float32", "torchvision, bf16 autocast", "ours, float32"]
    assert list(run_interleaved(case, 1)["seconds"]) == names
    assert len(under_bf16) == 2  # the warm-up and the round, of one of them


def test_cases_are_all_five() -> None:
    makers = [(make.func, make.keywords) for make in steps.cases(load_params())]
    heads = [(steps.head_training, {"masks": masks}) for masks in (False, True)]
    assert makers == [(steps.part_a_step, {}), *heads, (steps.joint_training, {}), (steps.inference, {})]


def test_disagreement_is_measured() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    ours = Detections(boxes, torch.tensor([1]), torch.tensor([0.5]), boxes, torch.full((1, 2, 2), 0.5))
    theirs = {"boxes": boxes + 0.25, "labels": torch.tensor([1]), "scores": torch.tensor([0.5])}
    theirs["masks"] = torch.full((1, 1, 2, 2), 0.375)
    text = "in float32, 1 detections each, labels alike, boxes within 2.5e-01 pixels, masks within 1.2e-01"
    assert steps.compare([ours], [theirs]) == text
    assert "labels differ" in steps.compare([dataclasses.replace(ours, labels=torch.tensor([2]))], [theirs])
    none = {name: value[:0] for name, value in theirs.items()}
    assert steps.compare([ours], [none]) == "numbers of detections differ: [(1, 0)]"

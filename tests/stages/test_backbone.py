"""Stages `backbone` and `evaluate_backbone` on tiny pictures: what each writes, and what the comparison compares."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from src.sources.assignment import CLASSES
from stages.backbone import __main__ as backbone
from stages.backbone.__main__ import start_fine_tuning
from stages.evaluate_backbone import __main__ as evaluate_backbone
from tests.factories import make_prepared
from tests.stages.workspace import (
    KilledError,
    kill_after,
    live_on,
    make_workspace,
    read,
    states,
    tiny_params,
    written_by,
)

NUMBERS = [  # of metrics/backbone.json; scripts of people may read them
    *("backbone", "weights", "normalization", "outputs", "losses_in_train_mode", "proposals_on_example", "example"),
    *("before", "after", "proposal_recall", "compared", "roi_align", "conditions"),
]
TERMS = ("objectness", "rpn_regression", "classification", "box_regression")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("prepared"), images=8)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Iterator[Path]:
    """The folder in which both stages run once for the whole module."""
    with pytest.MonkeyPatch.context() as patch:
        yield make_workspace(tmp_path_factory.mktemp("workspace"), patch, prepared)


@pytest.fixture(scope="module")
def trained(workspace: Path) -> dict[str, bytes]:
    return written_by(backbone.main, tiny_params(), workspace)


@pytest.fixture(scope="module")
def evaluated(workspace: Path, trained: dict[str, bytes]) -> dict[str, bytes]:
    return written_by(evaluate_backbone.main, tiny_params(), workspace)


def test_backbone_writes_weights_and_histories_and_nothing_else(trained: dict[str, bytes]) -> None:
    assert list(trained) == ["models/backbone.pt", "plots/backbone/test.csv", "plots/backbone/train.csv"]
    train, test = (pd.read_csv(io.BytesIO(trained[f"plots/backbone/{name}.csv"])) for name in ("train", "test"))
    terms = [*TERMS, *(f"{term}_weighted" for term in TERMS), "total"]
    assert train.columns.tolist() == ["iteration", "epoch", *terms]
    assert test.columns.tolist() == ["iteration", *terms]
    assert train["iteration"].tolist() == [1, 2, 3, 4, 5, 6]
    assert test["iteration"].tolist() == [3, 6]
    saved = states(io.BytesIO(trained["models/backbone.pt"]))
    assert list(saved) == ["backbone", "rpn", "box_head"]
    started = start_fine_tuning(tiny_params(), CLASSES, torch.device("cpu"))
    for part, module in (
        ("backbone", started.backbone),
        ("rpn", started.rpn),
        ("box_head", started.roi_heads.box_head),
    ):
        state = module.state_dict()
        assert list(saved[part]) == list(state)
        learned = {name for name in state if not torch.equal(saved[part][name], state[name])}
        assert learned
        assert not any(name.startswith("body") for name in learned)  # trainable_layers is 0


def test_a_killed_fine_tuning_ends_as_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: Path, trained: dict[str, bytes]
) -> None:
    workspace = make_workspace(tmp_path, monkeypatch, prepared)
    steps = kill_after(monkeypatch, 4)
    with pytest.raises(KilledError):
        backbone.main(tiny_params())
    steps.clear()
    live_on(monkeypatch, steps)
    backbone.main(tiny_params())
    assert len(steps) == 2
    assert {name: (workspace / name).read_bytes() for name in trained} == trained
    assert not list((workspace / ".cache/training/backbone").glob("*/state.pt"))


def test_evaluate_backbone_writes_numbers_and_figures_and_trains_nothing(evaluated: dict[str, bytes]) -> None:
    plots = [f"plots/evaluate_backbone/{name}" for name in ("before_after.png", "crops.png", "proposals.png")]
    assert list(evaluated) == ["metrics/backbone.json", *plots, "plots/evaluate_backbone/recall.csv"]
    assert all(len(evaluated[name]) > 1000 for name in plots)
    facts = json.loads(evaluated["metrics/backbone.json"])
    recall = pd.read_csv(io.BytesIO(evaluated["plots/evaluate_backbone/recall.csv"]))
    assert recall.columns.tolist() == ["proposals", "before", "after"]
    for moment in ("before", "after"):
        assert recall[moment].tolist() == pytest.approx(list(facts[moment]["recall"].values()), abs=1e-5)


def test_numbers_of_the_fine_tuned_network(evaluated: dict[str, bytes]) -> None:
    facts = json.loads(evaluated["metrics/backbone.json"])
    assert sorted(facts) == sorted(NUMBERS)
    assert (facts["backbone"], facts["weights"]) == ("efficientnet_lite0", "imagenet")
    shapes = [[1, 256, 24, 40], [1, 256, 12, 20], [1, 256, 6, 10], [1, 256, 3, 5], [1, 256, 2, 3]]
    assert [level["shape"] for level in facts["outputs"]] == shapes
    assert [level["anchor_size"] for level in facts["outputs"]] == [8, 16, 32, 64, 96]
    assert list(facts["losses_in_train_mode"]) == ["objectness", "rpn_regression"]
    assert 0 < facts["proposals_on_example"] <= 60
    assert facts["example"] in ("000006", "000007")  # a test image
    for moment in ("before", "after"):
        assert list(facts[moment]) == ["recall", "objectness_positive", "objectness_negative"]
        assert list(facts[moment]["recall"]) == ["10", "50", "100", "200", "1000"]
    assert facts["before"] != facts["after"]
    assert facts["proposal_recall"] == facts["after"]["recall"]["1000"]
    assert facts["roi_align"]["pooled"] == [256, 7, 7]
    assert facts["roi_align"]["largest_difference_from_torchvision"] < 1e-4


def test_evaluating_again_gives_the_same_bytes(workspace: Path, evaluated: dict[str, bytes]) -> None:
    evaluate_backbone.main(tiny_params())
    assert {name: (workspace / name).read_bytes() for name in evaluated} == evaluated


def test_without_fine_tuning_nothing_changes_from_before_to_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: Path
) -> None:
    """Both are measured alike: the same start from the seed, the same images. And a RoIAlign that is off is told."""
    workspace, params = make_workspace(tmp_path, monkeypatch, prepared), tiny_params()
    params = dataclasses.replace(params, backbone=dataclasses.replace(params.backbone, epochs=0))
    backbone.main(params)
    pool = evaluate_backbone.pool
    monkeypatch.setattr(evaluate_backbone, "pool", lambda *arguments: pool(*arguments) + 1)
    evaluate_backbone.main(params)
    facts = read(workspace / "metrics/backbone.json")
    assert facts["before"] == facts["after"]
    assert facts["roi_align"]["largest_difference_from_torchvision"] == pytest.approx(1, abs=1e-3)

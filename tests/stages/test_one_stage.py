"""Stage `one_stage`: what it writes, what learns, and that a killed training ends as an undisturbed one."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from src.core import paths
from src.core.errors import InputError
from src.core.params import Params
from src.detector.checkpoints import load_one_stage
from stages.one_stage import __main__ as one_stage
from tests.factories import make_prepared
from tests.stages.workspace import (
    KilledError,
    kill_after,
    learned,
    live_on,
    make_workspace,
    names,
    save_parts,
    states,
    tiny_params,
    written_by,
)

TERMS = ("classification", "box_regression")


def params(**changes: Any) -> Params:
    whole = tiny_params()
    return dataclasses.replace(whole, one_stage=dataclasses.replace(whole.one_stage, **changes))


@pytest.fixture
def workspace(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    prepared = make_prepared(tmp_path_factory.mktemp("data"), images=8)
    folder = make_workspace(tmp_path, monkeypatch, prepared)
    save_parts(params())
    return folder


def detector() -> dict[str, dict[str, torch.Tensor]]:
    return states(paths.ONE_STAGE)


def test_it_writes_weights_and_histories(workspace: Path) -> None:
    written = written_by(one_stage.main, params(), workspace)
    histories = [f"plots/one_stage/{name}.csv" for name in ("test", "train")]
    assert list(written) == ["models/one_stage.pt", *histories]
    test, train = (pd.read_csv(io.BytesIO(written[name])) for name in histories)
    columns = [*TERMS, *(f"{term}_weighted" for term in TERMS), "total"]
    assert train.columns.tolist() == ["iteration", "epoch", *columns]
    assert test.columns.tolist() == ["iteration", *columns]
    assert train["epoch"].tolist() == [1] * 3 + [2] * 3
    assert (train[list(TERMS)] > 0).all(axis=None)
    model, _ = load_one_stage(params(), torch.device("cpu"))
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(("fpn", "layers"), [(False, 0), (True, 0), (True, 2)])
def test_what_learns_is_what_the_settings_say(workspace: Path, fpn: bool, layers: int) -> None:
    before = torch.load(paths.BACKBONE, weights_only=True)["backbone"]
    one_stage.main(params(train_fpn=fpn, trainable_layers=layers, epochs=1))
    after = detector()
    assert set(after) == {"backbone", "head"}
    changed = learned({"backbone": before}, {"backbone": after["backbone"]})
    assert {name.split(".")[1] for name in changed} == ({"fpn"} if fpn else set()) | ({"body"} if layers else set())


def test_without_epochs_the_backbone_comes_as_it_is(workspace: Path) -> None:
    one_stage.main(params(epochs=0))
    before = torch.load(paths.BACKBONE, weights_only=True)["backbone"]
    assert learned({"backbone": before}, {"backbone": detector()["backbone"]}) == set()
    assert Path("plots/one_stage/train.csv").read_text(encoding="utf-8") == ""


def test_weights_of_losses_are_its_own(workspace: Path) -> None:
    weights = dataclasses.replace(params().one_stage.loss_weights, classification=2.0, box_regression=0.5)
    one_stage.main(params(loss_weights=weights, epochs=1))
    train = pd.read_csv("plots/one_stage/train.csv")
    assert train["classification_weighted"].tolist() == pytest.approx((2 * train["classification"]).tolist(), rel=1e-4)
    assert train["box_regression_weighted"].tolist() == pytest.approx(
        (0.5 * train["box_regression"]).tolist(), rel=1e-4
    )


def test_a_killed_training_ends_as_an_undisturbed_one(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_stage.main(params())
    undisturbed, history = detector(), Path("plots/one_stage/train.csv").read_bytes()
    steps = kill_after(monkeypatch, 4)
    with pytest.raises(KilledError):
        one_stage.main(params())
    live_on(monkeypatch, steps)
    one_stage.main(params())
    assert len(steps) == 6
    assert learned(undisturbed, detector()) == set()
    assert names(undisturbed) == names(detector())
    assert Path("plots/one_stage/train.csv").read_bytes() == history


def test_weights_of_another_shape_are_refused(workspace: Path) -> None:
    one_stage.main(params(epochs=0))
    with pytest.raises(InputError, match=r"models/one_stage\.pt\[head\]"):
        load_one_stage(params(channels=16), torch.device("cpu"))
    paths.ONE_STAGE.unlink()
    with pytest.raises(InputError, match=r"models/one_stage\.pt: expected a file made by `dvc repro`"):
        load_one_stage(params(), torch.device("cpu"))

"""Stages `anchors` and `rpn` on tiny pictures: every file of theirs, and a training that goes on after a kill."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from src.core.params import Params, PrepareParams, RuntimeParams, load_params
from src.data.prepared import PreparedFile
from src.training import loop
from src.training.loop import Progress
from stages.anchors import __main__ as anchors
from stages.rpn import __main__ as rpn
from tests.factories import make_prepared

ROOT = Path(__file__).resolve().parents[2]
CANVAS = PrepareParams(96, 128, 160, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture
def params() -> Params:
    whole = load_params(ROOT / "params.yaml")
    tiny = dataclasses.replace(whole.rpn, epochs=2, batch_size=2, samples=16)
    return dataclasses.replace(whole, rpn=tiny, prepare=CANVAS, runtime=RuntimeParams("float32", 1))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("prepared"), images=8, prepare=CANVAS)


@pytest.fixture
def workspace(tmp_path, monkeypatch, prepared) -> Path:
    (tmp_path / "data").mkdir()
    os.link(prepared, tmp_path / "data" / "prepared.h5")
    for folder in ("src", "stages"):  # the checkpoint's fingerprint hashes the code
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_anchors_writes_what_the_training_objects_say(workspace, params):
    anchors.work(params)
    facts, found = read(workspace / "metrics/anchors.json"), read(workspace / "data/anchors.json")
    with PreparedFile(workspace / "data/prepared.h5") as file:
        train = np.concatenate([file.boxes(i) for i in file.indices("train")])
        everything = np.concatenate([file.boxes(i) for i in range(len(file))])
    assert facts["objects"] == len(train) < len(everything)
    assert sum(group["objects"] for group in facts["by_class"].values()) == len(train)
    ((width, height),) = found["anchors"]
    assert (width * height) ** 0.5 == pytest.approx(found["scale_modes"][0], abs=0.8)
    assert height / width == pytest.approx(found["ratio_modes"][0], rel=0.1)
    assert facts["scale_mode"] == pytest.approx(found["scale_modes"][0])
    assert facts["ratio_mode"] == pytest.approx(found["ratio_modes"][0])
    assert 0 < facts["coverage"]["mean"] <= 1
    for name in ("scale", "ratio"):
        table = pd.read_csv(workspace / f"plots/anchors/{name}.csv")
        assert table["overall"].sum() == len(train)
        assert (table[["vehicle", "person", "animal"]].sum(axis=1) == table["overall"]).all()
    assert (workspace / "plots/anchors/histograms.png").stat().st_size > 1000
    assert (workspace / "plots/anchors/coverage.png").stat().st_size > 1000


def test_rpn_writes_every_file_of_its_contract(workspace, params):
    anchors.work(params)
    rpn.work(params)
    facts = read(workspace / "metrics/rpn.json")
    assert facts["receptive_field"] == facts["receptive_field_measured"] == 172
    assert facts["accuracy"] == pytest.approx((facts["accuracy_positive"] + facts["accuracy_negative"]) / 2)
    assert sum(facts["anchor_counts"].values()) == 6 * 10
    assert facts["layers"][-1]["output"] == [4, 6, 10]
    assert list(facts["recall"]) == ["10", "50", "100", "200", "1000"]
    train, test = (pd.read_csv(workspace / f"plots/rpn/{name}.csv") for name in ("train", "test"))
    assert train["iteration"].tolist() == [1, 2, 3, 4, 5, 6]
    assert train["epoch"].tolist() == [1, 1, 1, 2, 2, 2]
    assert {"objectness_weighted", "regression_weighted", "total"} <= set(train)
    assert test.columns.tolist() == ["iteration", "objectness", "regression", "total"]
    assert test["iteration"].tolist() == [3, 6]
    saved = torch.load(workspace / "models/rpn.pt", weights_only=True)
    assert saved["anchors"] == read(workspace / "data/anchors.json")["anchors"]
    assert "backbone.convolution5.0.weight" in saved["network"]
    for name in ("ground_truth", "proposals", "receptive_field"):
        assert (workspace / f"plots/rpn/{name}.png").stat().st_size > 1000
    assert pd.read_csv(workspace / "plots/rpn/recall.csv")["proposals"].tolist() == [10, 50, 100, 200, 1000]


class KilledError(Exception):
    """Stands for a kill in the middle of an epoch."""


def test_a_killed_training_ends_as_an_undisturbed_one(workspace, params, monkeypatch):
    anchors.work(params)
    rpn.work(params)
    outputs = [workspace / name for name in ("models/rpn.pt", "plots/rpn/train.csv", "plots/rpn/test.csv")]
    undisturbed = [path.read_bytes() for path in outputs]
    assert not list((workspace / ".cache/training/rpn").glob("*/state.pt"))

    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    take_step, steps = loop._step, []

    def dying_step(*arguments):
        if len(steps) == 4:
            raise KilledError
        steps.append(1)
        return take_step(*arguments)

    monkeypatch.setattr(loop, "_step", dying_step)
    with pytest.raises(KilledError):
        rpn.work(params)
    monkeypatch.setattr(loop, "_step", take_step)
    resumed: list[int] = []
    restore = Progress.restore
    monkeypatch.setattr(Progress, "restore", lambda self, state: (restore(self, state), resumed.append(self.iteration)))
    rpn.work(params)
    assert resumed == [4]
    assert [path.read_bytes() for path in outputs] == undisturbed

"""Stages `anchors`, `rpn` and `evaluate_rpn` on tiny pictures: all their files, and a training that survives a kill."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from src.core.errors import InputError
from src.core.params import Params
from src.data.dataset import DatasetFile
from src.data.prepared import PreparedFile, write_prepared
from src.structures.masks import Masks
from src.training.loop import Progress
from stages.anchors import __main__ as anchors
from stages.evaluate_rpn import __main__ as evaluate_rpn
from stages.rpn import __main__ as rpn
from tests.factories import SMALL, make_dataset, make_prepared, make_samples
from tests.stages.workspace import KilledError, kill_after, live_on, make_workspace, read, tiny_params, written_by

NUMBERS = {  # of metrics/rpn.json; scripts of people may read them
    *("layers", "parameters", "receptive_field", "receptive_field_measured", "boxes_larger_than_field"),
    *("balanced_accuracy", "accuracy", "accuracy_positive", "accuracy_negative", "labeled_positive"),
    *("labeled_negative", "regression_iou", "anchor_iou", "smooth_l1", "recall", "anchor_counts", "conditions"),
}


@pytest.fixture
def params() -> Params:
    return tiny_params()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("prepared"), images=8)


@pytest.fixture
def workspace(tmp_path, monkeypatch, prepared) -> Path:
    return make_workspace(tmp_path, monkeypatch, prepared)


def test_anchors_writes_what_the_training_objects_say(workspace, params):
    anchors.main(params)
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
    assert 0 < facts["best_anchor_iou"]["mean"] <= 1
    for name in ("scale", "ratio"):
        table = pd.read_csv(workspace / f"plots/anchors/{name}.csv")
        assert list(table.columns) == ["class", name, "objects"]
        objects = table.groupby("class")["objects"].sum()
        assert dict(objects) == {name: group["objects"] for name, group in facts["by_class"].items()}
        assert objects.sum() == len(train)
    assert (workspace / "plots/anchors/histograms.png").stat().st_size > 1000
    assert (workspace / "plots/anchors/best_anchor_iou.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("section", "values"),
    [("evaluate", {"split": "validation"}), ("joint", {"keep": "best"}), ("joint", {"patience": 2})],
)
def test_validation_that_a_set_does_not_allow_is_refused_before_a_training(
    workspace, params, section, values, tmp_path, monkeypatch
):
    choosing = dataclasses.replace(params, **{section: dataclasses.replace(getattr(params, section), **values)})
    setting = f"{section}.{next(iter(values))}"
    with pytest.raises(InputError, match=rf"data\.validation_fraction.*{setting}"):
        anchors.main(choosing)
    assert [file.name for file in (workspace / "data").iterdir()] == ["prepared.h5"]
    (tmp_path / "own").mkdir()
    own = make_workspace(tmp_path / "own", monkeypatch, make_prepared(tmp_path, images=8, validation=[2]))
    anchors.main(choosing)
    assert (own / "data/anchors.json").is_file()


def test_objects_that_fill_their_pictures_are_trained_on_with_an_anchor_cut_to_them(
    tmp_path, monkeypatch, params, caplog
):
    """Documents, products, leaves close up."""
    samples = []
    for sample in make_samples(8):
        height, width = sample.image.shape[:2]
        sample.boxes[:] = (0, 0, width, height)
        whole = Masks.from_pixels(np.ones((len(sample.masks), height, width), bool))
        samples.append(dataclasses.replace(sample, masks=whole))
    folder = tmp_path / "set"
    folder.mkdir()
    with DatasetFile(make_dataset(folder / "dataset.h5", samples)) as dataset:
        write_prepared(folder / "prepared.h5", dataset, params.prepare)
    (tmp_path / "work").mkdir()
    workspace = make_workspace(tmp_path / "work", monkeypatch, folder / "prepared.h5")
    anchors.main(params)
    ((width, height),) = read(workspace / "data/anchors.json")["anchors"]
    assert width <= SMALL.width - 16
    assert height <= SMALL.height - 16
    assert "the anchor is cut to" in caplog.text
    rpn.main(params)
    evaluate_rpn.main(params)
    assert read(workspace / "metrics/rpn.json")["labeled_positive"] > 0


def test_rpn_writes_weights_and_histories_and_nothing_else(workspace, params):
    anchors.main(params)
    written = written_by(rpn.main, params, workspace)
    assert list(written) == ["models/rpn.pt", "plots/rpn/test.csv", "plots/rpn/train.csv"]
    train, test = (pd.read_csv(workspace / f"plots/rpn/{name}.csv") for name in ("train", "test"))
    assert train["iteration"].tolist() == [1, 2, 3, 4, 5, 6]
    assert train["epoch"].tolist() == [1, 1, 1, 2, 2, 2]
    terms = ["objectness", "rpn_regression", "objectness_weighted", "rpn_regression_weighted", "total"]
    assert train.columns.tolist() == ["iteration", "epoch", *terms]
    assert test.columns.tolist() == ["iteration", *terms]
    assert test["iteration"].tolist() == [3, 6]
    saved = torch.load(workspace / "models/rpn.pt", weights_only=True)
    assert saved["anchors"] == read(workspace / "data/anchors.json")["anchors"]
    assert "backbone.convolution5.0.weight" in saved["network"]


def test_evaluate_rpn_writes_numbers_and_figures_and_trains_nothing(workspace, params):
    anchors.main(params)
    rpn.main(params)
    written = written_by(evaluate_rpn.main, params, workspace)
    figures = {f"plots/evaluate_rpn/{name}.png" for name in ("ground_truth", "proposals", "receptive_field")}
    assert set(written) == {"metrics/rpn.json", "plots/evaluate_rpn/recall.csv", *figures}
    facts = read(workspace / "metrics/rpn.json")
    assert set(facts) == NUMBERS
    assert facts["receptive_field"] == facts["receptive_field_measured"] == 172
    assert facts["balanced_accuracy"] == pytest.approx((facts["accuracy_positive"] + facts["accuracy_negative"]) / 2)
    assert sum(facts["anchor_counts"].values()) == 6 * 10
    assert facts["layers"][-1]["output"] == [4, 6, 10]
    assert list(facts["recall"]) == ["10", "50", "100", "200", "1000"]
    assert facts["conditions"]["test_images"] == 2
    assert all(len(written[name]) > 1000 for name in figures)
    recall = pd.read_csv(workspace / "plots/evaluate_rpn/recall.csv")
    assert recall["proposals"].tolist() == [10, 50, 100, 200, 1000]
    assert recall["recall"].tolist() == pytest.approx(list(facts["recall"].values()))


def test_evaluating_again_gives_the_same_bytes(workspace, params):
    anchors.main(params)
    rpn.main(params)
    evaluate_rpn.main(params)
    outputs = [workspace / "metrics/rpn.json", *sorted((workspace / "plots/evaluate_rpn").iterdir())]
    first = [path.read_bytes() for path in outputs]
    evaluate_rpn.main(params)
    assert [path.read_bytes() for path in outputs] == first


def test_a_picture_without_objects_is_measured_and_drawn(tmp_path, monkeypatch, params):
    """The last two are for testing, both empty: nothing is positive, nothing can be recalled."""
    folder = tmp_path / "set"
    folder.mkdir()
    with DatasetFile(make_dataset(folder / "dataset.h5", make_samples(8, empty=(6, 7)))) as dataset:
        write_prepared(folder / "prepared.h5", dataset, params.prepare)
    (tmp_path / "work").mkdir()
    workspace = make_workspace(tmp_path / "work", monkeypatch, folder / "prepared.h5")
    anchors.main(params)
    rpn.main(params)
    evaluate_rpn.main(params)
    facts = read(workspace / "metrics/rpn.json")
    undefined = ("balanced_accuracy", "accuracy_positive", "regression_iou", "boxes_larger_than_field")
    assert {facts[key] for key in undefined} == {None}
    assert set(facts["recall"].values()) == {None}
    assert pd.read_csv(workspace / "plots/evaluate_rpn/recall.csv")["recall"].isna().all()
    assert (workspace / "plots/evaluate_rpn/receptive_field.png").stat().st_size > 1000


def test_a_killed_training_ends_as_an_undisturbed_one(workspace, params, monkeypatch):
    anchors.main(params)
    rpn.main(params)
    outputs = [workspace / name for name in ("models/rpn.pt", "plots/rpn/train.csv", "plots/rpn/test.csv")]
    undisturbed = [path.read_bytes() for path in outputs]
    assert not list((workspace / ".cache/training/rpn").glob("*/state.pt"))

    kill_after(monkeypatch, 4)
    with pytest.raises(KilledError):
        rpn.main(params)
    live_on(monkeypatch, [])
    resumed: list[int] = []
    restore = Progress.restore
    monkeypatch.setattr(Progress, "restore", lambda self, state: (restore(self, state), resumed.append(self.iteration)))
    rpn.main(params)
    assert resumed == [4]
    assert [path.read_bytes() for path in outputs] == undisturbed

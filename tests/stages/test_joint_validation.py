"""Stage `joint` with a validation part: the weights that it keeps, when it ends, and that it survives a kill."""

from __future__ import annotations

import copy
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from src.core import paths
from src.core.params import Params
from src.core.tensors import State
from src.detector.mask_rcnn import MaskRCNN
from src.structures.classes import Classes
from src.training import loop
from src.training.checkpoint import Checkpoint
from stages.joint import __main__ as joint
from tests.factories import make_prepared
from tests.stages.workspace import make_workspace, save_parts, tiny_params

HISTORIES = ("train", "test", "validation", "gradients")
OUTPUTS = ["models/detector.pt", *(f"plots/joint/{name}.csv" for name in HISTORIES)]
STEPS = 3  # of an epoch


def params(**changes: Any) -> Params:
    """A learning rate so high, and a seed, that the losses of two validation pictures fall, then rise."""
    whole = tiny_params()
    values = {"epochs": 4, "learning_rate": 1e-3, "seed": 3} | changes
    return dataclasses.replace(
        whole,
        data=dataclasses.replace(whole.data, validation_fraction=0.25),
        joint=dataclasses.replace(whole.joint, **values),
    )


CHOOSING = {"keep": "best", "patience": 1}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Six pictures to train on, two to choose by, two to test on."""
    prepared = make_prepared(tmp_path_factory.mktemp("prepared"), images=10, validation=[1, 4])
    with pytest.MonkeyPatch.context() as patch:
        folder = make_workspace(tmp_path_factory.mktemp("workspace"), patch, prepared)
        save_parts(params())
        yield folder


def trained(workspace: Path, **changes: Any) -> dict[str, bytes]:
    """What the stage writes with some keys of the section changed; taken away again."""
    joint.main(params(**changes))
    written = {name: (workspace / name).read_bytes() for name in OUTPUTS}
    assert {path.name for path in (workspace / "plots/joint").iterdir()} == {f"{name}.csv" for name in HISTORIES}
    for name in written:
        (workspace / name).unlink()
    assert not list(workspace.glob(".cache/training/joint/*/*.pt"))
    return written


@dataclasses.dataclass
class Watch:
    """The weights at each epoch's end, and those that the stage saves."""

    epochs: list[State] = dataclasses.field(default_factory=list)
    kept: list[State] = dataclasses.field(default_factory=list)


def watched(workspace: Path, **changes: Any) -> tuple[dict[str, bytes], Watch]:
    watch, save_state, save_detector = Watch(), Checkpoint.save, joint.save_detector

    def noted_state(self: Checkpoint, state: dict[str, Any]) -> None:
        watch.epochs.append(copy.deepcopy(state["model"]))
        save_state(self, state)

    def noted_detector(model: MaskRCNN, classes: Classes) -> None:
        watch.kept.append(copy.deepcopy(model.state_dict()))
        save_detector(model, classes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "save", noted_state)
        patch.setattr(joint, "save_detector", noted_detector)
        return trained(workspace, **changes), watch


@pytest.fixture(scope="module")
def whole(workspace: Path) -> tuple[dict[str, bytes], Watch]:
    """All four epochs, and the last weights."""
    return watched(workspace)


@pytest.fixture(scope="module")
def chosen(workspace: Path) -> tuple[dict[str, bytes], Watch]:
    return watched(workspace, **CHOOSING)


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def totals(written: dict[str, bytes]) -> list[float]:
    return table(written, "validation")["total"].tolist()


def table(written: dict[str, bytes], name: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(written[f"plots/joint/{name}.csv"]))


def test_the_validation_part_is_measured_beside_the_test_images(whole: tuple[dict[str, bytes], Watch]) -> None:
    written, watch = whole
    train, test, validation = (table(written, name) for name in ("train", "test", "validation"))
    assert len(train) == 4 * STEPS  # of two pictures each: those of the validation part are no training pictures
    assert validation["iteration"].tolist() == test["iteration"].tolist() == [0, 3, 6, 9, 12]
    assert validation.columns.tolist() == test.columns.tolist()
    assert not (validation["total"] == test["total"]).any()
    assert len(watch.epochs) == 4
    assert same(watch.kept[0], watch.epochs[-1])  # `keep: last`


def test_it_ends_early_with_the_weights_of_the_lowest_validation_loss(
    whole: tuple[dict[str, bytes], Watch], chosen: tuple[dict[str, bytes], Watch]
) -> None:
    losses = totals(whole[0])  # of the start, then of each epoch
    best = next(epoch for epoch in range(5) if losses[epoch + 1] >= losses[epoch])
    assert 0 < best < 3
    written, watch = chosen
    assert len(watch.epochs) == best + 1
    assert same(watch.kept[0], whole[1].epochs[best - 1])
    for name in HISTORIES:
        assert whole[0][f"plots/joint/{name}.csv"].startswith(written[f"plots/joint/{name}.csv"])
    assert len(table(written, "train")) == STEPS * (best + 1)
    assert totals(written) == losses[: best + 2]


class KilledError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize(("moment", "survived"), [("_step", 5), ("mean_losses", 5)])
def test_a_killed_training_chooses_as_an_undisturbed_one(
    moment: str,
    survived: int,
    workspace: Path,
    chosen: tuple[dict[str, bytes], Watch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed at the second epoch's last step, or when only the last validation losses are to be measured."""
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    work, done = getattr(loop, moment), []

    def dies(*arguments: Any) -> Any:
        if len(done) == survived:
            raise KilledError
        done.append(1)
        return work(*arguments)

    monkeypatch.setattr(loop, moment, dies)
    with pytest.raises(KilledError):
        joint.main(params(**CHOOSING))
    assert not (workspace / paths.DETECTOR).exists()
    monkeypatch.setattr(loop, moment, work)
    assert trained(workspace, **CHOOSING) == chosen[0]

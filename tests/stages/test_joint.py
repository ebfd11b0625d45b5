"""Stage `joint` on tiny pictures: what each scheme trains and writes, and a training that survives a kill."""

from __future__ import annotations

import dataclasses
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from src.core import paths
from src.core.params import Params
from src.detector.checkpoints import save_detector
from src.sources.assignment import CLASSES
from src.training import loop
from stages.joint import __main__ as joint
from tests.factories import make_prepared
from tests.stages.workspace import (
    KilledError,
    Parts,
    content,
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

PARTS = ("backbone", "rpn", "box_head", "mask_head")
RPN_TERMS, HEAD_TERMS = ("objectness", "rpn_regression"), ("classification", "box_regression", "mask")
TERMS = [*RPN_TERMS, *HEAD_TERMS]
HISTORIES = [f"plots/joint/{name}.csv" for name in ("gradients", "test", "train")]
OUTPUTS = ["models/detector.pt", *HISTORIES]
IN_TURNS = {"scheme": "alternating", "rounds": 2, "epochs": 1}  # RPN, FPN and heads, RPN, FPN and heads, RPN


def params(**changes: Any) -> Params:
    """Three steps an epoch, with some keys of the section `joint` changed."""
    whole = tiny_params()
    return dataclasses.replace(whole, joint=dataclasses.replace(whole.joint, **changes))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("prepared"), images=8)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Iterator[Path]:
    """A folder with the pictures and the parts that stages `backbone` and `mask_head` leave."""
    with pytest.MonkeyPatch.context() as patch:
        folder = make_workspace(tmp_path_factory.mktemp("workspace"), patch, prepared)
        save_parts(params())
        yield folder


def trained(workspace: Path, **changes: Any) -> dict[str, bytes]:
    """What the stage writes with some keys changed; taken away again."""
    joint.main(params(**changes))
    written = {name: (workspace / name).read_bytes() for name in OUTPUTS}
    for name in written:
        (workspace / name).unlink()
    assert not list(workspace.glob(".cache/training/joint/*/*.pt"))
    return written


@pytest.fixture(scope="module")
def before(workspace: Path) -> Parts:
    """The parts that training begins with."""
    files = [states(workspace / path) for path in (paths.BACKBONE, paths.MASK_HEAD)]
    return {part: next(file[part] for file in reversed(files) if part in file) for part in PARTS}


@pytest.fixture(scope="module")
def together(workspace: Path) -> dict[str, bytes]:
    return trained(workspace)


@pytest.fixture(scope="module")
def in_turns(workspace: Path) -> tuple[dict[str, bytes], list[Parts]]:
    """What the stage writes, and the parts after each phase."""
    fit, moments = joint.fit, []

    def fit_and_look(*arguments: Any, **options: Any) -> loop.Progress:
        progress = fit(*arguments, **options)
        save_detector(progress.model, CLASSES)
        moments.append(states(paths.DETECTOR))
        paths.DETECTOR.unlink()
        return progress

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint, "fit", fit_and_look)
        return trained(workspace, **IN_TURNS), moments


def detector(written: dict[str, bytes]) -> Parts:
    return states(io.BytesIO(written["models/detector.pt"]))


def table(written: dict[str, bytes], name: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(written[f"plots/joint/{name}.csv"]))


@pytest.mark.parametrize("scheme", ["none", "end_to_end", "alternating"])
def test_joint_writes_weights_and_histories_and_nothing_else(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: Path
) -> None:
    folder = make_workspace(tmp_path, monkeypatch, prepared)
    save_parts(params())
    assert list(written_by(joint.main, params(scheme=scheme, epochs=1), folder)) == OUTPUTS


def test_no_scheme_puts_the_parts_together_byte_for_byte(workspace: Path, before: Parts) -> None:
    written = trained(workspace, scheme="none")
    found = detector(written)
    assert tuple(found) == PARTS
    assert all(content(found[part]) == content(before[part]) for part in PARTS)
    assert all(written[name] == b"" for name in HISTORIES)


def test_end_to_end_trains_all_but_the_body(before: Parts, together: dict[str, bytes]) -> None:
    body = {name for name in names(before) if name.startswith("backbone.body.")}
    rest = {name.removeprefix("backbone.").split(".")[0] for name in names(before) - body}
    assert rest == {"fpn", "rpn", "box_head", "mask_head"}
    assert len(body) > 50
    assert learned(before, detector(together)) == names(before) - body


def test_the_deepest_stages_of_the_body_learn_where_asked_for(workspace: Path, before: Parts) -> None:
    found = learned(before, detector(trained(workspace, trainable_layers=1, epochs=1)))
    body = {name.removeprefix("backbone.body.net.") for name in found if name.startswith("backbone.body.")}
    assert {name[: len("blocks.5")] for name in body} == {"blocks.5", "blocks.6"}
    assert {name.split(".")[0] for name in found} == set(PARTS)


def test_histories_of_end_to_end_training(together: dict[str, bytes]) -> None:
    train, test, gradients = (table(together, name) for name in ("train", "test", "gradients"))
    columns = [*TERMS, *(f"{term}_weighted" for term in TERMS), "total"]
    assert train.columns.tolist() == ["iteration", "epoch", *columns]
    assert train["iteration"].tolist() == [1, 2, 3, 4, 5, 6]
    assert train["epoch"].tolist() == [1, 1, 1, 2, 2, 2]
    assert test.columns.tolist() == ["iteration", *columns]
    assert test["iteration"].tolist() == [0, 3, 6]  # the parts as they came, then each epoch's end
    assert gradients.columns.tolist() == ["iteration", *TERMS, *(f"{term}_norm" for term in TERMS)]
    assert gradients["iteration"].tolist() == [1, 3, 5]  # every second step
    assert (gradients[TERMS] > 0).all(axis=None)
    assert gradients[TERMS].sum(axis=1).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_weights_of_losses_are_those_of_joint_training(workspace: Path) -> None:
    weights = {"objectness": 1.0, "rpn_regression": 2.0, "classification": 0.5, "box_regression": 3.0, "mask": 4.0}
    values = dataclasses.replace(params().joint.loss_weights, **weights)
    train = table(trained(workspace, loss_weights=values, epochs=1), "train")
    for term, weight in weights.items():
        assert train[f"{term}_weighted"].tolist() == pytest.approx((weight * train[term]).tolist(), rel=1e-4)


def test_alternating_trains_in_turns_with_one_history(in_turns: tuple[dict[str, bytes], list[Parts]]) -> None:
    written, moments = in_turns
    assert len(moments) == 5
    train, test, gradients = (table(written, name) for name in ("train", "test", "gradients"))
    assert train["iteration"].tolist() == list(range(1, 16))
    assert train["epoch"].tolist() == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3 + [5] * 3
    assert test["iteration"].tolist() == [0, 3, 6, 9, 12, 15]
    rpn_alone = [True] * 3 + [False] * 3 + [True] * 3 + [False] * 3 + [True] * 3
    for terms, learns in ((RPN_TERMS, rpn_alone), (HEAD_TERMS, [not alone for alone in rpn_alone])):
        for term in terms:
            assert (train[term] > 0).all()  # measured in every phase
            assert (train[f"{term}_weighted"] > 0).tolist() == learns
    assert gradients.columns.tolist() == ["iteration", *TERMS, *(f"{term}_norm" for term in TERMS)]
    assert gradients["iteration"].tolist() == [4, 6, 10, 12]  # every second one of those in which the FPN learns
    assert (gradients[list(HEAD_TERMS)] > 0).any().all()  # a batch may be without an object
    assert gradients[list(HEAD_TERMS)].sum(axis=1).tolist() == pytest.approx([1] * 4, abs=1e-5)
    assert (gradients[list(RPN_TERMS)] == 0).all(axis=None)


def test_each_phase_trains_its_own_parts(before: Parts, in_turns: tuple[dict[str, bytes], list[Parts]]) -> None:
    written, moments = in_turns
    rpn_first, then_others, rpn_next, others_next, rpn_last = itertools.starmap(
        learned, itertools.pairwise([before, *moments])
    )
    kinds = {part: {name for name in names(before) if name.startswith(part)} for part in (*PARTS, "backbone.fpn")}
    assert rpn_first == rpn_next == rpn_last == kinds["rpn"]
    heads = kinds["box_head"] | kinds["mask_head"]
    for others in (then_others, others_next):
        assert heads < others <= heads | kinds["backbone.fpn"]
    assert learned(moments[-1], detector(written)) == set()


@pytest.mark.parametrize(("scheme", "survived"), [("end_to_end", 4), ("alternating", 7)])
def test_a_killed_training_ends_as_an_undisturbed_one(
    scheme: str,
    survived: int,
    workspace: Path,
    together: dict[str, bytes],
    in_turns: tuple[dict[str, bytes], list[Parts]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed in the second epoch, or in the third phase; no step is made twice."""
    undisturbed, changes = (together, {}) if scheme == "end_to_end" else (in_turns[0], IN_TURNS)
    steps = kill_after(monkeypatch, survived)
    with pytest.raises(KilledError):
        joint.main(params(**changes))
    assert not (workspace / paths.DETECTOR).exists()
    live_on(monkeypatch, steps)
    assert trained(workspace, **changes) == undisturbed
    assert len(steps) == len(table(undisturbed, "train"))

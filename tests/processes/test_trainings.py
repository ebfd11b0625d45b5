"""The same results on any number of processes: losses, draws, cached features, detections, and resumed trainings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from src.core import paths
from src.core.files import write_json
from src.core.params import Params
from src.training import loop
from src.training.checkpoint import Checkpoint
from stages.box_head import __main__ as box_head
from stages.detect import __main__ as detect
from stages.features import __main__ as features
from stages.joint import __main__ as joint
from stages.mask_head import __main__ as mask_head
from stages.one_stage import __main__ as one_stage
from stages.rpn import __main__ as rpn
from tests.factories import make_prepared
from tests.processes import program
from tests.processes.conftest import Start
from tests.stages.workspace import make_workspace, save_parts, save_rival, states
from tests.training.toy import Killed

STEPS = 6  # of `joint`: two epochs of three


def one_process() -> Params:
    return program.params(1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two processes have one each."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def workspace(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    data = tmp_path_factory.mktemp("data")
    make_prepared(data, images=8)
    folder = make_workspace(tmp_path, monkeypatch, data / "dataset.h5", data / "prepared.h5")
    save_parts(one_process())
    program.DRAWS.mkdir()
    return folder


def history(stage: str, name: str = "train") -> pd.DataFrame:
    return pd.read_csv(Path("plots") / stage / f"{name}.csv")


def close(found: pd.DataFrame, expected: pd.DataFrame, rows: int | None = None, tolerance: float = 1e-5) -> None:
    pd.testing.assert_frame_equal(found[:rows], expected[:rows], rtol=tolerance, atol=tolerance)


def draws() -> set[str]:
    """All that was drawn, whoever drew it and however often; begun anew."""
    lines: set[str] = set()
    for file in program.DRAWS.iterdir():
        lines |= set(file.read_text(encoding="utf-8").splitlines())
        file.unlink()
    return lines


def compare_draws(found: set[str], expected: set[str]) -> None:
    """Anchors hang on the pictures alone; RoIs also on proposals, which rounding may swap now and then."""
    anchors, rois = (
        [{line for line in lines if f"sample_{kind}" in line} for lines in (found, expected)]
        for kind in ("anchors", "rois")
    )
    assert anchors[0] == anchors[1]
    assert len(rois[0] & rois[1]) >= 0.9 * max(map(len, rois)) > 0


def alone(stage: str, main: Any) -> None:
    """Runs a stage in this process."""
    with pytest.MonkeyPatch.context() as patch:
        program.note_draws(patch.setattr)
        main(one_process())
    assert not list(Path(f".cache/training/{stage}").glob("*/*.pt"))


def test_joint_training_draws_and_loses_the_same_on_two_processes(start: Start, workspace: Path) -> None:
    alone("joint", joint.main)
    names = ("train", "test", "gradients")
    expected, drawn = {name: history("joint", name) for name in names}, draws()
    weights = states(paths.DETECTOR)
    ended = start("joint", "2")
    assert ended.status == 0, ended.lines
    close(history("joint"), expected["train"], rows=1)
    close(history("joint"), expected["train"], rows=3, tolerance=1e-4)
    for name in names:
        close(history("joint", name), expected[name], tolerance=2e-3)
    # The last minibatch of an epoch has one picture for two processes: one draws from it for nothing.
    assert len(drawn) > 20
    compare_draws(draws(), drawn)
    found = states(paths.DETECTOR)
    for part, state in weights.items():
        for name, value in state.items():
            torch.testing.assert_close(found[part][name], value, rtol=2e-3, atol=2e-4, msg=f"{part}.{name}")


def test_the_one_stage_detector_loses_the_same_on_two_processes(start: Start, workspace: Path) -> None:
    alone("one_stage", one_stage.main)
    expected = {name: history("one_stage", name) for name in ("train", "test")}
    weights = states(paths.ONE_STAGE)
    ended = start("one_stage", "2")
    assert ended.status == 0, ended.lines
    close(history("one_stage"), expected["train"], rows=1)
    for name, table in expected.items():
        close(history("one_stage", name), table, tolerance=2e-3)
    found = states(paths.ONE_STAGE)
    for part, state in weights.items():
        for name, value in state.items():
            torch.testing.assert_close(found[part][name], value, rtol=2e-3, atol=2e-4, msg=f"{part}.{name}")


@pytest.mark.parametrize("killed_on", [1, 2])
def test_a_training_killed_on_some_processes_resumes_on_others(
    start: Start, workspace: Path, monkeypatch: pytest.MonkeyPatch, killed_on: int
) -> None:
    alone("joint", joint.main)
    undisturbed, drawn = history("joint"), draws()
    resumed_from = 4  # in the middle of the second epoch
    if killed_on == 2:
        ended = start("joint", "2", env={program.KILL_AT: str(resumed_from)})
        assert ended.status == -9
    else:
        with monkeypatch.context() as patch:
            die_after(patch, resumed_from)
            with pytest.raises(Killed):
                alone("joint", joint.main)
    (saved,) = Path(".cache/training/joint").glob("*/phase_0.pt")
    assert torch.load(saved, weights_only=True)["iteration"] == resumed_from
    made = count_steps(monkeypatch)
    if killed_on == 2:
        alone("joint", joint.main)
        assert len(made) == STEPS - resumed_from
    else:
        ended = start("joint", "2")
        assert ended.status == 0, ended.lines
        assert any(f"{resumed_from}/{STEPS}" in line for line in ended.lines)
    close(history("joint"), undisturbed, tolerance=2e-3)
    close(history("joint"), undisturbed, rows=1)
    compare_draws(draws(), drawn)
    assert not saved.exists()


def die_after(patch: pytest.MonkeyPatch, number: int) -> None:
    """Saves after every step, and dies after the n-th."""
    save, saved = Checkpoint.save, [0]

    def dies(self: Checkpoint, state: dict[str, Any]) -> None:
        save(self, state)
        saved[0] += 1
        if saved[0] == number:
            raise Killed

    patch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    patch.setattr(Checkpoint, "save", dies)


def count_steps(patch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are made in this process from now on."""
    step, made = loop._step, list[int]()

    def counted(*arguments: Any) -> loop.Row:
        made.append(1)
        return step(*arguments)

    patch.setattr(loop, "_step", counted)
    return made


@pytest.mark.parametrize(("stage", "main"), [("box_head", box_head.main), ("mask_head", mask_head.main)])
def test_heads_learn_the_same_on_two_processes(start: Start, workspace: Path, stage: str, main: Any) -> None:
    """Dropout and all: what an image's RoIs lose does not depend on who computes it."""
    features.main(one_process())
    if stage == "mask_head":
        box_head.main(one_process())
    alone(stage, main)
    expected, drawn = {name: history(stage, name) for name in ("train", "test")}, draws()
    ended = start(stage, "2")
    assert ended.status == 0, ended.lines
    compare_draws(draws(), drawn)
    for name, rows in expected.items():
        close(history(stage, name), rows, tolerance=1e-4)


def test_part_a_learns_the_same_on_two_processes(start: Start, workspace: Path) -> None:
    write_json(paths.ANCHORS, {"anchors": [[30.0, 24.0], [60.0, 40.0]]})
    rpn.main(one_process())
    expected = {name: history("rpn", name) for name in ("train", "test")}
    ended = start("rpn", "2")
    assert ended.status == 0, ended.lines
    for name, rows in expected.items():
        close(history("rpn", name), rows, tolerance=1e-4)


def test_features_and_detections_are_the_same_to_the_byte(start: Start, workspace: Path) -> None:
    joint.main(one_process())
    save_rival(one_process())
    found = [paths.DETECTIONS, paths.PREDICTIONS, paths.ONE_STAGE_DETECTIONS]
    outputs = {"features": [paths.FEATURES, paths.metrics("features")], "detect": found}
    for stage, main in (("features", features.main), ("detect", detect.main)):
        main(one_process())
        expected = [path.read_bytes() for path in outputs[stage]]
        for path in outputs[stage]:
            path.unlink()
        ended = start(stage, "2")
        assert ended.status == 0, ended.lines
        assert [path.read_bytes() for path in outputs[stage]] == expected
        assert len(expected[0]) > 1000

"""Stages whose body stands still keep its maps, share them, and give the same bytes with and without."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from src.core.params import AugmentParams
from src.data.prepared import PreparedFile
from src.detector import kept_maps
from src.detector.backbones import LiteBody
from stages.backbone import __main__ as backbone
from stages.evaluate_backbone import __main__ as evaluate_backbone
from stages.features import __main__ as features
from stages.joint import __main__ as joint
from stages.one_stage import __main__ as one_stage
from tests.factories import make_prepared
from tests.stages.workspace import make_workspace, save_parts, tiny_params, written_by

TRAININGS = {"backbone": backbone, "joint": joint, "one_stage": one_stage}
READERS = {"evaluate_backbone": evaluate_backbone, "features": features}
STAGES = TRAININGS | READERS
AUGMENT = AugmentParams(scale_jitter=0.0, color_jitter=0.2, copy_paste=0.0)
CHANGES = {"body": {"options": {"trainable_layers": 1}}, "images": {"augment": AUGMENT}}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("data"), images=6)


def run(
    stage: str, prepared: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, maps: Path | None = None, **changes: Any
) -> dict[str, bytes]:
    """What a stage writes in a new workspace, which may begin with another's maps."""
    folder.mkdir()
    make_workspace(folder, monkeypatch, prepared)
    if maps:
        shutil.copytree(maps, folder / ".cache/maps")
    params = tiny_params()
    if stage in TRAININGS:
        changes = {stage: dataclasses.replace(getattr(params, stage), **changes.pop("options", {})), **changes}
    params = dataclasses.replace(params, **changes)
    if stage != "backbone":
        save_parts(params)
    return written_by(STAGES[stage].main, params, folder)


def kept(folder: Path) -> dict[str, bytes]:
    maps = folder / ".cache/maps"
    return {path.relative_to(maps).as_posix(): path.read_bytes() for path in maps.rglob("*.pt")}


def without_maps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kept_maps, "keep_maps", lambda *_, **__: None)
    for stage in READERS.values():
        patch.setattr(stage, "keep_maps", lambda *_, **__: None)


@pytest.fixture(scope="module")
def maps(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of a training that saw most pictures from both sides."""
    folder = tmp_path_factory.mktemp("before") / "run"
    with pytest.MonkeyPatch.context() as patch:
        run("one_stage", prepared, folder, patch, options={"epochs": 6})
    return folder / ".cache/maps"


@pytest.mark.parametrize("stage", STAGES)
def test_the_outputs_are_the_same_bytes_with_and_without(
    stage: str, prepared: Path, maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of trainings that write them, and of all stages that find them."""
    first = run(stage, prepared, tmp_path / "first", monkeypatch)
    assert bool(kept(tmp_path / "first")) == (stage in TRAININGS)
    again = run(stage, prepared, tmp_path / "again", monkeypatch, maps)
    with monkeypatch.context() as patch:
        without_maps(patch)
        without = run(stage, prepared, tmp_path / "without", patch)
    assert kept(tmp_path / "without") == {}
    assert first == again == without


@pytest.mark.parametrize("stage", STAGES)
def test_what_was_kept_is_not_computed_again(
    stage: str, prepared: Path, maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    forward = LiteBody.forward
    monkeypatch.setattr(LiteBody, "forward", lambda self, images: (asked.append(len(images)), forward(self, images))[1])
    counts = []
    for folder, known in (("first", None), ("again", maps)):
        asked.clear()
        run(stage, prepared, tmp_path / folder, monkeypatch, known)
        counts.append(sum(asked))
    assert counts[1] < counts[0] / 2


def test_trainings_share_them(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together they see each picture and each mirror image at most: nothing is kept twice."""
    maps = None
    for stage in TRAININGS:
        run(stage, prepared, tmp_path / stage, monkeypatch, maps)
        maps = tmp_path / stage / ".cache/maps"
    assert maps is not None
    with PreparedFile(prepared) as file:
        assert len(file.names) <= len(kept(tmp_path / "one_stage")) <= 2 * len(file.names)
    assert len(list(maps.iterdir())) == 1


@pytest.mark.parametrize("stage", TRAININGS)
@pytest.mark.parametrize("changed", CHANGES)
def test_where_the_body_learns_or_images_vary_none_is_kept(
    stage: str, changed: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(stage, prepared, tmp_path / "run", monkeypatch, **CHANGES[changed])
    assert kept(tmp_path / "run") == {}


@pytest.mark.parametrize("name", ["precision", "threads"])
def test_other_conditions_have_their_own(
    name: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tiny_params().runtime
    other = dataclasses.replace(runtime, **{name: {"precision": "bf16", "threads": 2}[name]})
    run("one_stage", prepared, tmp_path / "first", monkeypatch)
    run("one_stage", prepared, tmp_path / "other", monkeypatch, tmp_path / "first/.cache/maps", runtime=other)
    assert len({file.split("/")[0] for file in kept(tmp_path / "other")}) == 2

"""A folder in which stages run on tiny pictures, beside the project's own settings and code."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from src.core import paths
from src.core.params import Params, RuntimeParams
from src.core.params_file import load_params
from src.core.tensors import State
from src.detector.checkpoints import make_box_head, make_mask_head, save_heads, save_one_stage, start_one_stage
from src.detector.weights import build
from src.sources.assignment import CLASSES
from src.training import loop
from tests.detector.small import randomize
from tests.factories import SMALL

TAKE_STEP = loop._step

ROOT = Path(__file__).resolve().parents[2]

Parts = dict[str, State]  # of a detector: each part's weights


def tiny_params() -> Params:
    """The project's settings on a small canvas, with trainings of two epochs, in float32 on one thread."""
    whole = load_params(ROOT / "params.yaml")
    return dataclasses.replace(
        whole,
        prepare=SMALL,
        rpn=dataclasses.replace(whole.rpn, epochs=2, batch_size=2, batch_size_per_image=16),
        backbone=dataclasses.replace(
            whole.backbone,
            epochs=2,
            anchor_sizes=(8.0, 16.0, 32.0, 64.0, 96.0),
            rpn_batch_size_per_image=32,
            box_batch_size_per_image=8,
        ),
        proposals=dataclasses.replace(whole.proposals, pre_nms_top_n=60, post_nms_top_n=60),
        features=dataclasses.replace(whole.features, proposals=24),
        box_head=dataclasses.replace(whole.box_head, epochs=2, batch_size=2, representation_size=16),
        mask_head=dataclasses.replace(whole.mask_head, epochs=2, batch_size=2, channels=8),
        joint=dataclasses.replace(
            whole.joint,
            scheme="end_to_end",
            epochs=2,
            trainable_layers=0,
            batch_size=2,
            box_batch_size_per_image=8,
            mask_batch_size_per_image=4,
            gradient_interval=2,
        ),
        one_stage=dataclasses.replace(
            whole.one_stage, epochs=2, trainable_layers=0, batch_size=2, convolutions=1, channels=8
        ),
        runtime=RuntimeParams("float32", 1, 1, 1),
    )


def make_workspace(folder: Path, monkeypatch: pytest.MonkeyPatch, *data: Path) -> Path:
    """Fills a folder with what a training's checkpoint hashes, and with data files; moves there.

    Args:
        folder: an empty one.
        monkeypatch: moves back after the test.
        data: files that earlier stages would have written to `data/`.
    """
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("src", "stages"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "data").mkdir()
    for file in data:
        os.link(file, folder / "data" / file.name)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return folder


def save_parts(params: Params) -> None:
    """Weights as the trainings of parts leave them: a pretrained body, all else at random."""
    torch.manual_seed(0)
    backbone, rpn = build(params.backbone, params.proposals)
    auxiliary, box_head = make_box_head(params, CLASSES), make_box_head(params, CLASSES)
    mask_head = make_mask_head(params, CLASSES)
    randomize([*rpn.parameters(), *box_head.parameters(), *mask_head.parameters()], 0, 0.1)
    tuned = {"backbone": backbone, "rpn": rpn, "box_head": auxiliary}
    for path, parts in ((paths.BACKBONE, tuned), (paths.MASK_HEAD, {"box_head": box_head, "mask_head": mask_head})):
        save_heads(path, parts, CLASSES)


def save_rival(params: Params) -> None:
    """The one-stage detector on the backbone of `save_parts`, its head at random but alive."""
    torch.manual_seed(0)
    model = start_one_stage(params, CLASSES, torch.device("cpu"))
    randomize(model.head.parameters(), 0, 0.1)
    save_one_stage(model, CLASSES)


def written_by(main: Callable[[Params], None], params: Params, workspace: Path) -> dict[str, bytes]:
    """Runs a stage; gives the files that it made by their names. It may have changed no other."""
    before = _files(workspace)
    main(params)
    after = _files(workspace)
    assert {name for name, content in before.items() if after.get(name) != content} == set()
    return {name: after[name] for name in sorted(after.keys() - before.keys())}


def _files(folder: Path) -> dict[str, bytes]:
    """All files below a folder, less the code, which is linked to, and what no result depends on but its seconds."""
    named = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    aside = (".cache/seconds/", ".cache/maps/")
    return {name: path.read_bytes() for name, path in named.items() if not name.startswith(aside)}


def states(file: Any) -> Parts:
    """The state dicts of a file with heads, which also names their classes."""
    content = torch.load(file, weights_only=True)
    assert content.pop("classes") == [*CLASSES.names]
    return content


def read(path: Path) -> Any:
    """The content of a metrics file."""
    return json.loads(path.read_text(encoding="utf-8"))


def content(state: State) -> list[tuple[Any, ...]]:
    """Name, type, shape and bytes of each tensor, in order."""
    return [(name, value.dtype, value.shape, value.numpy().tobytes()) for name, value in state.items()]


def names(parts: Parts) -> set[str]:
    """All tensors, as `part.name`."""
    return {f"{part}.{name}" for part, state in parts.items() for name in state}


def learned(first: Parts, last: Parts) -> set[str]:
    """Tensors that are not what they were, to the byte."""
    assert names(first) == names(last)
    pairs = ((part, *pair) for part in first for pair in zip(content(first[part]), content(last[part]), strict=True))
    return {f"{part}.{one[0]}" for part, one, other in pairs if one != other}


class KilledError(Exception):
    """What a test kills a training with."""


def kill_after(monkeypatch: pytest.MonkeyPatch, survived: int) -> list[int]:
    """Has a training save a checkpoint after each step and die before the one that follows `survived` steps.

    Returns:
        An entry for each step that was made; `live_on` goes on with it.
    """
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    steps: list[int] = []

    def step(*arguments: Any) -> loop.Row:
        if len(steps) == survived:
            raise KilledError
        steps.append(1)
        return TAKE_STEP(*arguments)

    monkeypatch.setattr(loop, "_step", step)
    return steps


def live_on(monkeypatch: pytest.MonkeyPatch, steps: list[int]) -> None:
    """Lets the next training make all its steps, and notes them too."""
    monkeypatch.setattr(loop, "_step", lambda *arguments: (steps.append(1), TAKE_STEP(*arguments))[1])

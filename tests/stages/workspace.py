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

from src.core.params import Params, RuntimeParams
from src.core.params_file import load_params
from tests.factories import SMALL

ROOT = Path(__file__).resolve().parents[2]


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
        runtime=RuntimeParams("float32", 1),
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


def written_by(main: Callable[[Params], None], params: Params, workspace: Path) -> dict[str, bytes]:
    """Runs a stage; gives the files that it made by their names. It may have changed no other."""
    before = _files(workspace)
    main(params)
    after = _files(workspace)
    assert {name for name, content in before.items() if after.get(name) != content} == set()
    return {name: after[name] for name in sorted(after.keys() - before.keys())}


def _files(folder: Path) -> dict[str, bytes]:
    """All files below a folder, without the code, which is linked to."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(path: Path) -> Any:
    """The content of a metrics file."""
    return json.loads(path.read_text(encoding="utf-8"))

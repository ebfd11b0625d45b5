"""Checkpoints under `.cache/training/<stage>/<fingerprint>/`, from which a killed training resumes.

The fingerprint hashes exactly what dvc.yaml lists for the stage: parameters, data and code. A run with any of them
changed never finds stale weights, and an edit of what the stage does not run throws no resume away. DVC's
`persist: true` would resume a stale one.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning_fabric import Fabric
from ruamel.yaml import YAML

from src.core.runtime import available_cores, cache_dir
from src.core.tensors import save_tensors

OTHERS_KEPT = 3  # of one stage's other runs, the latest: experiments that run side by side keep theirs
PIPELINE, PARAMS = Path("dvc.yaml"), Path("params.yaml")
NO_CODE = ("__pycache__",)


class Checkpoint:
    """The last saved state of one training, or of one phase of it.

    Args:
        stage: the stage's name in dvc.yaml.
        fabric: where there are several processes, the first one says which checkpoint it is.
    """

    def __init__(self, stage: str, fabric: Fabric | None = None) -> None:
        first = fabric is None or fabric.is_global_zero
        digits = fingerprint(stage) if first else ""
        self.folder = cache_dir() / "training" / stage / (fabric.broadcast(digits) if fabric else digits)
        self.path = self.folder / "state.pt"
        if not first:
            return
        others = (folder for folder in self.folder.parent.glob("*") if folder != self.folder)
        for old in sorted(others, key=_saved_at, reverse=True)[OTHERS_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def phase(self, number: int) -> Checkpoint:
        """The checkpoint of one phase; those of finished phases stay, so that a resumed training passes over them."""
        one = copy.copy(self)
        one.path = self.folder / f"phase_{number}.pt"
        return one

    def load(self) -> dict[str, Any] | None:
        """The saved state, or None where there is none."""
        return torch.load(self.path, map_location="cpu", weights_only=True) if self.path.exists() else None

    def save(self, state: dict[str, Any]) -> None:
        """Replaces the saved state atomically."""
        save_tensors(self.path, state)

    def clear(self) -> None:
        """Removes the checkpoint, of all phases, once the training's outputs are written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _saved_at(folder: Path) -> float:
    """When a checkpoint was last saved; never, where another process has just removed it."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def fingerprint(stage: str) -> str:
    """Twenty hexadecimal digits that change with what the stage lists, the version of torch or the thread count."""
    listed = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))["stages"][stage]
    params = YAML(typ="safe", pure=True).load(PARAMS.read_text(encoding="utf-8"))
    threads = params.get("runtime", {}).get("threads", 0) or available_cores()  # of all processes together
    digest = hashlib.sha256(f"{torch.__version__} {threads}".encode())
    for key in listed.get("params", []):
        digest.update(json.dumps([key, _value(params, key)], sort_keys=True).encode())
    for dependency in listed["deps"]:
        for path in _files(Path(dependency)):
            digest.update(path.as_posix().encode())
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
    return digest.hexdigest()[:20]


def _value(params: Any, key: str) -> Any:
    """What a dotted key of params.yaml holds."""
    for name in key.split("."):
        params = params[name]
    return params


def _files(path: Path) -> Iterator[Path]:
    """The file, or all files of the folder in a fixed order."""
    if path.is_file():
        yield path
    else:
        yield from sorted(file for file in path.rglob("*") if file.is_file() and not set(NO_CODE) & set(file.parts))

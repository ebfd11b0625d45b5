"""Checkpoints under `.cache/training/<stage>/<fingerprint>/`, from which a killed training goes on.

The fingerprint hashes the stage's params, inputs and code: a run with anything changed never finds stale weights.
DVC's `persist: true` would resume them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from src.core.files import atomic_write
from src.core.runtime import cache_dir

STATE = "state.pt"
OTHERS_KEPT = 3  # of one stage's other runs, the latest: experiments that run side by side keep theirs


class Checkpoint:
    """The last saved state of one training.

    Args:
        stage: the stage's name.
        params: the dataclasses that the stage tracks.
        inputs: the files that the stage reads; hashed whole.
    """

    def __init__(self, stage: str, params: Sequence[Any], inputs: Sequence[Path]) -> None:
        self.folder = cache_dir() / "training" / stage / fingerprint(params, inputs)
        others = (folder for folder in self.folder.parent.glob("*") if folder != self.folder)
        for old in sorted(others, key=_saved_at, reverse=True)[OTHERS_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def load(self) -> dict[str, Any] | None:
        """The saved state, or None where there is none."""
        path = self.folder / STATE
        return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None

    def save(self, state: dict[str, Any]) -> None:
        """Replaces the saved state atomically."""
        save_tensors(self.folder / STATE, state)

    def clear(self) -> None:
        """Removes the checkpoint, once the training's outputs are written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _saved_at(folder: Path) -> float:
    """When a checkpoint was last saved; never, where another process has just removed it."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def save_tensors(path: Path, value: Any) -> None:
    """Writes a tree of tensors atomically. The same tensors give the same bytes, whatever the file's name."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def fingerprint(params: Sequence[Any], inputs: Sequence[Path]) -> str:
    """Twenty hexadecimal digits that change with the params, the inputs, the project's code or the thread count."""
    digest = hashlib.sha256(repr([dataclasses.asdict(section) for section in params]).encode())
    digest.update(f"{torch.__version__} {torch.get_num_threads()}".encode())
    code = sorted(path for folder in ("src", "stages") for path in Path(folder).rglob("*.py"))
    for path in [*code, *inputs]:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:20]

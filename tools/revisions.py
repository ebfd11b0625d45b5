"""A run's files, wherever the run is: in the workspace, in a Git revision, in an experiment that DVC keeps."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from src.core.errors import InputError, one_line

WORKSPACE: Final = "workspace"


@dataclass(frozen=True)
class Revision:
    """A run by its name.

    Attributes:
        name: `workspace`, a Git revision, or an experiment's name.
        folder: where its files are copied to.
        files: DVC's view of the revision; None for the workspace.
    """

    name: str
    folder: Path
    files: Any = None

    @classmethod
    def find(cls, name: str, folder: Path) -> Revision:
        """The run of that name.

        Raises:
            InputError: there is none.
        """
        if name == WORKSPACE:
            return cls(name, folder)
        from dvc.api import DVCFileSystem  # noqa: PLC0415 - takes a second
        from dvc.repo import Repo  # noqa: PLC0415
        from dvc.scm import RevError, resolve_rev  # noqa: PLC0415

        try:
            with Repo() as repo:
                commit = resolve_rev(repo.scm, name)
        except RevError:
            known = "a name that `make experiments` lists, a Git revision, or workspace"
            raise InputError(f"{name}: no such run; expected {known}") from None
        except Exception as error:  # noqa: BLE001 - whatever DVC raises is said in a line
            raise InputError(f"{name}: {one_line(error)}") from None
        return cls(name, folder, DVCFileSystem(rev=commit))

    def file(self, path: str) -> Path:
        """A file of the run, read-only.

        Raises:
            InputError: it is not here; the message says how to get it.
        """
        if self.files is None:
            if not Path(path).is_file():
                raise InputError(f"{path}: not in the workspace; make it: dvc repro, or fetch it: dvc pull")
            return Path(path)
        copy = self.folder / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.files.open(path, "rb") as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target)
        except Exception as error:  # noqa: BLE001 - DVC's storage raises errors of many makings
            copy.unlink(missing_ok=True)
            raise InputError(self._missing(path, error)) from None
        return copy

    def maybe(self, path: str) -> Path | None:
        """A file of the run, or None where it is not here."""
        try:
            return self.file(path)
        except InputError:
            return None

    def _missing(self, path: str, error: Exception) -> str:
        if not self.files.exists("dvc.lock"):
            todo = "nothing was run and committed there; after a run: git add dvc.lock metrics && git commit"
            return f"{self.name}: {path} is unknown, as this revision has no dvc.lock: {todo}"
        todo = "dvc pull --all-commits, if somebody pushed it; else check that revision out and dvc repro"
        return f"{self.name}: {path} is not in the cache here ({one_line(error)[:80]}): {todo}"

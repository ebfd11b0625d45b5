"""What `make` says before it begins, and a stage that is run by a Python without the project's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.structure.project import PROJECT


def run(folder: Path, *command: str) -> tuple[int, list[str]]:
    """A command's status and lines, outside of any Git repository."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "MAKE", "PYTHON"))}
    clean["GIT_CEILING_DIRECTORIES"] = str(folder.parent)
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, (done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize("target", ["report", "quick", "photos"])
def test_a_zip_of_the_project_is_told_to_become_a_repository_first(tmp_path: Path, target: str) -> None:
    shutil.copy(PROJECT / "Makefile", tmp_path)
    status, lines = run(tmp_path, "make", target)
    assert status == 2
    assert lines[0] == "make: DVC works in a Git repository, and this folder is none; first: git init"
    assert not (tmp_path / ".venv").exists()


def test_a_python_without_the_packages_says_what_to_do(tmp_path: Path) -> None:
    for name in ("src", "stages"):
        (tmp_path / name).symlink_to(PROJECT / name)
    status, lines = run(
        tmp_path, sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, '.'); import stages"
    )
    assert status == 1
    assert lines == [
        f"{sys.executable} has no torch; first: source .venv/bin/activate (after `make report` or `make quick`)"
    ]

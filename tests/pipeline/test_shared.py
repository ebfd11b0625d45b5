"""A class shares its runs: what one pushes to a remote, another's clone has without training."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.pipeline.conftest import Run
from tests.pipeline.workspace import MINUTES, Workspace, stages_run

pytestmark = pytest.mark.timeout(60 * MINUTES)


@pytest.fixture
def pushed(emoji: Run, tmp_path: Path) -> Workspace:
    """A finished run, committed and pushed to a folder."""
    return share(emoji.workspace.root, tmp_path)


def share(finished: Path, folder: Path) -> Workspace:
    """A copy of a finished workspace whose outputs are in the remote `folder`/shared, by README's two lines."""
    mine = Workspace(folder / "mine")
    shutil.copytree(finished, mine.root, symlinks=True)
    mine.record.mkdir()
    mine.dvc("remote", "add", "--default", "class", str(folder / "shared"))
    mine.commit()
    mine.dvc("push")
    return mine


def clone(original: Workspace, folder: Path) -> Workspace:
    """A clone of it, as another person makes it, set up already."""
    theirs = Workspace(folder / "theirs")
    theirs.record.mkdir()
    theirs.root.mkdir()
    theirs.run("git", "clone", "--quiet", str(original.root), ".")
    (theirs.root / ".venv").mkdir()
    for stamp in ("made", "ready"):
        (theirs.root / ".venv" / stamp).write_text(f"{theirs.root}\n", encoding="utf-8")  # where it was made
    return theirs


def check_clone(original: Workspace, theirs: Workspace) -> None:
    """That `make report` there fetches the page, byte by byte, and trains nothing."""
    assert not (theirs.root / "report").exists()
    said = theirs.run("make", "report")
    assert stages_run(said) in ([], ["source"])  # which says where the pictures are, on every machine
    page = Path("report/index.html")
    assert (theirs.root / page).read_bytes() == (original.root / page).read_bytes()
    assert str(theirs.root / page) in said
    assert "box AP50" in said
    assert stages_run(theirs.dvc("repro")) == []


@pytest.mark.skipif(os.name != "posix", reason="runs make")
def test_a_clone_gets_the_report_without_training(pushed: Workspace, tmp_path: Path) -> None:
    check_clone(pushed, clone(pushed, tmp_path))


def test_what_is_not_in_the_remote_is_named(pushed: Workspace, tmp_path: Path) -> None:
    """Without the remote the clone still starts, from nothing."""
    theirs = clone(pushed, tmp_path)
    shutil.rmtree(tmp_path / "shared")
    said = theirs.run("make", "--dry-run", "report")
    assert "dvc pull" in said
    assert "dvc pull" in theirs.run("python", "-m", "tools.compare", "HEAD", "HEAD", fails=True)

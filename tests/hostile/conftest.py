"""A workspace for each case, and good sets that the cases spoil."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.core import stage as common
from tests.factories import make_coco, make_course
from tests.hostile.case import Stage


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Stage:
    """An empty folder as the working directory."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(common, "end_with", lambda _: None)  # this process is no stage
    return Stage(folder, capsys)


@pytest.fixture(scope="session")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The course's four files, six pictures."""
    folder = tmp_path_factory.mktemp("course")
    make_course(folder, 6, seed=3)
    return folder


@pytest.fixture(scope="session")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO set, six pictures."""
    folder = tmp_path_factory.mktemp("coco")
    make_coco(folder, 6, seed=1)
    return folder

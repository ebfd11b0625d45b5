"""Three finished runs of the whole DAG, one a source, made once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.factories import make_coco, make_course
from tests.pipeline.workspace import Workspace, make_workspace

SOURCES = ("emoji", "course", "coco")


@dataclass(frozen=True)
class Run:
    """A workspace after its first `dvc repro`, and what that printed."""

    workspace: Workspace
    root: Path
    output: str


def _values(source: str, folder: Path) -> dict[str, Any]:
    """Params of one source; the course's folder is relative, with a space in its name, COCO's is absolute."""
    if source == "emoji":
        return {}
    if source == "course":
        make_course(folder / "course files", images=10)
        return {"data.source": "course", "data.root": "../course files"}
    make_coco(folder / "coco files", images=10)
    return {"data.source": "coco", "data.root": str(folder / "coco files")}


def _finished(source: str, folder: Path) -> Run:
    values = _values(source, folder)
    workspace = make_workspace(folder / source, values)
    root = (workspace.root / values.get("data.root", "input")).resolve()
    return Run(workspace, root, workspace.dvc("repro"))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """The run of a source; all are started at once, as many at a time as there are cores on a small machine."""
    folder = tmp_path_factory.mktemp("pipeline")
    pool = ThreadPoolExecutor(max_workers=2)
    futures = {source: pool.submit(_finished, source, folder) for source in SOURCES}
    yield lambda source: futures[source].result()
    pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session", params=SOURCES)
def finished(request: pytest.FixtureRequest, runs: Callable[[str], Run]) -> Run:
    """Each of the three runs in turn."""
    return runs(request.param)


@pytest.fixture(scope="session")
def emoji(runs: Callable[[str], Run]) -> Run:
    """The run on scenes made here."""
    return runs("emoji")

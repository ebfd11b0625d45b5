"""Finished runs of the whole DAG, one a source, made once for all tests of this folder that need it.

The sets have different numbers of classes: scenes and the course's files three, the set in COCO's format twelve of its
own; `one class` is that set again with all of them as one, as small as a run can be.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.factories import make_course, make_own_classes
from tests.pipeline.workspace import Workspace, make_workspace

SOURCES = ("emoji", "course", "coco")
ONE_CLASS = "one class"
OWN = (
    "Clear plastic bottle",
    "Drink can",
    "_hidden",
    "$5 & $6 bags",
    "größe",
    "a, b",
    *(f"kind {n}" for n in range(6)),
)
SMALLEST = {
    "features.flip": False,
    "backbone.box_batch_size_per_image": 4,
    "box_head.batch_size_per_image": 8,
    "joint.epochs": 1,
    "report.images": 1,
}


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
    images = {"coco": 10, ONE_CLASS: 5}[source]
    make_own_classes(folder / f"{source} files", OWN, images)
    values = {"data.source": "coco", "data.root": str(folder / f"{source} files"), "data.coco.classes": "categories"}
    return values if source == "coco" else values | {"data.coco.classes": {"thing": list(OWN)}} | SMALLEST


def _finished(source: str, folder: Path) -> Run:
    values = _values(source, folder)
    workspace = make_workspace(folder / source, values)
    root = (workspace.root / values.get("data.root", "input")).resolve()
    return Run(workspace, root, workspace.dvc("repro"))


class Runs:
    """The runs of the sources, each begun once, as many at a time as there are cores on a small machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(max_workers=2)
        self._begun: dict[str, Future[Run]] = {}

    def begin(self, source: str) -> Future[Run]:
        """Does not wait."""
        if source not in self._begun:
            self._begun[source] = self._pool.submit(_finished, source, self._folder)
        return self._begun[source]

    def __call__(self, source: str) -> Run:
        return self.begin(source).result()

    def close(self) -> None:
        """Waits for those that run."""
        self._pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The run of a source, begun when it is first asked for."""
    made = Runs(tmp_path_factory.mktemp("pipeline"))
    yield made
    made.close()


@pytest.fixture(scope="session", params=SOURCES)
def finished(request: pytest.FixtureRequest, runs: Runs) -> Run:
    """Each of the three runs in turn; the others are begun meanwhile."""
    for source in SOURCES:
        runs.begin(source)
    return runs(request.param)


@pytest.fixture(scope="session")
def emoji(runs: Runs) -> Run:
    """The run on scenes made here."""
    return runs("emoji")

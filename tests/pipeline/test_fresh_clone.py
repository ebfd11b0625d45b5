"""A clone in which nothing has run yet: every command that a newcomer tries ends well, and the numbers are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipeline.workspace import MINUTES, Workspace, make_workspace, stages_run
from tests.structure.project import ORDER, PROJECT, tracked_files

pytestmark = pytest.mark.timeout(60 * MINUTES)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """What Git has of the project, with tiny params."""
    return make_workspace(tmp_path_factory.mktemp("fresh") / "clone", {})


def test_the_lock_file_is_not_shipped() -> None:
    """Its outputs would be in nobody's cache: pushing an experiment, or comparing with HEAD, would fail."""
    assert "dvc.lock" not in {path.name for path in tracked_files()}


def test_the_numbers_are_there_before_anything_has_run(clone: Workspace) -> None:
    shown = clone.dvc("metrics", "show", "--json")
    found = json.loads(shown)[""]["data"]["metrics/summary.json"]["data"]
    assert found == json.loads((PROJECT / "metrics" / "summary.json").read_text(encoding="utf-8"))
    clone.dvc("metrics", "diff", "HEAD")
    assert "box_ap50" in clone.dvc("exp", "show", "--csv").splitlines()[0]


def test_plots_show_ends_well(clone: Workspace, tmp_path: Path) -> None:
    assert "index.html" in clone.dvc("plots", "show", "--out", str(tmp_path))


def test_a_dry_run_lists_every_stage(clone: Workspace) -> None:
    """Without --force DVC asks its run-cache, and fails on the first dependency that no stage has written yet."""
    assert sorted(stages_run(clone.dvc("repro", "--dry", "--force"))) == sorted(ORDER)


def test_one_stage_runs_as_an_experiment(clone: Workspace) -> None:
    assert stages_run(clone.dvc("exp", "run", "--name", "first", "ingest")) == ["source", "ingest"]
    assert "first" in clone.dvc("exp", "list", "--name-only")
    changed = {line[3:] for line in clone.run("git", "status", "--porcelain").splitlines()}
    assert changed <= {"dvc.lock"}

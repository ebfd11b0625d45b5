"""What the page says of where a run comes from: Git, dvc.lock, packages, cost."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from src.reporting.provenance import (
    commit,
    cost_table,
    files_table,
    packages_table,
    provenance,
    read_lock,
    settings_table,
)
from tests.reporting.runs import write_run

LOCK = """
schema: '2.0'
stages:
  ingest:
    cmd: python -m stages.ingest
    deps:
    - {path: input, md5: 636c.dir, size: 907}
    - {path: src/core, md5: aaaa.dir, size: 59445}
    params:
      params.yaml:
        data: {source: emoji, coco: {classes: {cat: [tabby]}, names: null}}
    outs:
    - {path: data/dataset.h5, md5: bbbb, size: 2119880}
    - {path: plots/ingest, md5: cccc.dir, size: 1}
  box_head:
    deps:
    - {path: data/dataset.h5, md5: bbbb, size: 2119880}
    params:
      params.yaml:
        box_head.epochs: 3
        box_head.rate: 1e-06
    outs:
    - {path: models/box_head.pt, md5: dddd, size: 1615693}
  report:
    params:
      params.yaml:
        report.settings: quick
"""
PARAMS = """
data: {source: course, coco: {classes: {cat: [tabby]}, names: null}}
box_head: {epochs: 3, rate: 0.000001}
report: {settings: default}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a commit and a lock."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.py").write_text("x = 1")
    (tmp_path / "params.yaml").write_text(PARAMS)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    (tmp_path / "dvc.lock").write_text(LOCK)
    return tmp_path


def git(root: Path, *arguments: str) -> None:
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", root, *author, *arguments], check=True)


def test_the_commit_and_changes_beyond_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = write_run(project)
    assert f"at commit {commit(project)}." in provenance(results, {}).words["commit"]
    (project / "src/a.py").write_text("x = 2")
    assert "with changes to the code" in provenance(results, {}).words["commit"]
    monkeypatch.setenv("PATH", "")
    assert commit(project) == "unknown"
    assert "not known" in provenance(results, {}).words["commit"]


def test_settings_are_those_with_which_the_stages_ran(project: Path) -> None:
    """Not those of params.yaml, which is put back after a run with others."""
    table = settings_table(project, read_lock(project))
    assert table is not None
    assert [list(row) for row in table.rows] == [["data.source", "course", "emoji"]]
    assert "1 setting differs" in provenance(write_run(project), {}).words["settings"]
    git(project, "mv", "params.yaml", "other.yaml")
    git(project, "commit", "-q", "-m", "y")
    assert settings_table(project, read_lock(project)) is None


def test_a_folder_without_git_and_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    found = provenance(write_run(tmp_path), {"source": "emoji"})
    assert "settings" not in found.tables
    assert "not known" in found.words["settings"]
    assert found.tables["files"].rows == []


def test_hashes_of_what_came_from_outside_and_of_data_and_models(project: Path) -> None:
    rows = [list(row) for row in files_table(read_lock(project)).rows]
    assert rows == [
        ["input", "from outside", "636c.dir", "907 B"],
        ["data/dataset.h5", "ingest", "bbbb", "2 MB"],
        ["models/box_head.pt", "box head", "dddd", "2 MB"],
    ]


def test_cost_and_packages() -> None:
    rows = cost_table({"rpn": 61.0, "box_head": 7000.0}, {"rpn": 2.5e9}).rows
    assert [list(row) for row in rows] == [["rpn", "61 s", "2.5 GB"], ["box head", "1.9 h", "n/a"]]
    assert {"torch", "numpy"} <= {row[0] for row in packages_table().rows}

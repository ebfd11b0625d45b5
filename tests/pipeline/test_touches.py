"""What an edit reruns: a comment added to a file of the project, and what `dvc status` then says of a finished run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.pipeline.conftest import Run
from tests.pipeline.workspace import MINUTES, Workspace
from tests.structure.project import EVALUATION, TRAINING, read_pipeline

pytestmark = pytest.mark.timeout(2 * 60 * MINUTES)  # the first test waits for a whole run

# The file touched, and all stages that are then out of date. What comes after them reruns only if their outputs change.
TOUCHES = {
    "src/figures/base.py": {
        *("ingest", "prepare", "anchors"),
        *("evaluate_rpn", "evaluate_backbone", "evaluate", "predict", "report"),
    },
    "src/figures/evaluation.py": {
        *("ingest", "prepare", "anchors"),
        *("evaluate_rpn", "evaluate_backbone", "evaluate", "predict", "report"),
    },
    "src/reporting/page.py": {"report"},
    "src/evaluation/errors.py": set(EVALUATION),
    "src/training/loop.py": set(TRAINING),
    "stages/backbone/__main__.py": {"backbone"},  # the scheme of fine-tuning
    "src/detector/mask_rcnn.py": {
        *("backbone", "evaluate_backbone", "features", "box_head", "mask_head", "joint", "one_stage", "detect"),
        "predict",
    },
    "src/plain_rpn/losses.py": {"anchors", "rpn", "evaluate_rpn"},
    "src/sources/course.py": {"ingest", "predict"},
    "stages/report/__main__.py": {"report"},
}


@pytest.fixture(scope="module")
def finished_copy(emoji: Run, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished run of its own, so that its files may be touched."""
    workspace = Workspace(tmp_path_factory.mktemp("touches") / "copy")
    shutil.copytree(emoji.workspace.root, workspace.root)
    workspace.record.mkdir()
    return workspace


def out_of_date(workspace: Workspace) -> set[str]:
    """Stages that `dvc status` lists."""
    return set(re.findall(r"^(\w+):$", workspace.dvc("status"), flags=re.MULTILINE))


def test_a_finished_run_is_up_to_date(finished_copy: Workspace) -> None:
    assert out_of_date(finished_copy) == set()


@pytest.mark.parametrize("name", TOUCHES)
def test_a_comment_reruns_only_the_stages_that_run_the_file(finished_copy: Workspace, name: str) -> None:
    path = Path(finished_copy.root / name)
    before = path.read_text(encoding="utf-8")
    path.write_text(f"{before}# A comment.\n", encoding="utf-8")
    try:
        assert out_of_date(finished_copy) == TOUCHES[name]
    finally:
        path.write_text(before, encoding="utf-8")


@pytest.mark.parametrize("folder", ["src/figures", "src/reporting", "src/evaluation"])
def test_what_measures_and_draws_is_no_dependency_of_what_is_expensive(folder: str) -> None:
    stages = read_pipeline()["stages"]
    assert folder in {dependency for stage in stages.values() for dependency in stage["deps"]}
    assert [stage for stage in (*TRAINING, "features") if folder in stages[stage]["deps"]] == []

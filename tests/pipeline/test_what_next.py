"""What a person does next: another loss weight, temporary and queued runs, comparisons, changed input."""

from __future__ import annotations

import re

import pytest

from tests.pipeline.workspace import MINUTES, stages_run

pytestmark = pytest.mark.timeout(2 * 60 * MINUTES)  # the first test waits for whole runs

AFTER_JOINT = ["joint", "detect", "evaluate", "predict", "report"]


@pytest.fixture(scope="module")
def committed(emoji):
    """The emoji run with its lock in Git, as experiments need it."""
    emoji.workspace.commit()
    return emoji.workspace


@pytest.fixture(scope="module")
def heavier(committed):
    """An experiment with twice the mask loss, run in the workspace, and what it printed."""
    return committed.dvc("exp", "run", "--name", "heavier", "--set-param", "joint.loss_weights.mask=2")


def test_a_mask_loss_weight_reruns_joint_training_and_what_follows(heavier):
    assert sorted(stages_run(heavier)) == sorted(AFTER_JOINT)


def test_the_number_that_was_turned_is_seen_beside_the_headline(heavier, committed):
    changed = committed.dvc("exp", "show", "--only-changed", "--csv").splitlines()[0].split(",")
    assert "joint.loss_weights.mask" in changed
    shown = committed.dvc("exp", "show", "--csv").splitlines()[0].split(",")
    assert {"box_ap50", "joint.loss_weights.mask"} < set(shown)
    assert shown.index("proposal_recall") < 15  # the headline alone, before any setting


def test_the_two_runs_compare_in_numbers(heavier, committed):
    differences = committed.dvc("metrics", "diff", "HEAD", "heavier", "--all")
    assert "metrics/summary.json" in differences
    assert "joint.loss_weights.mask" in committed.dvc("params", "diff", "HEAD", "heavier")


def test_the_two_runs_compare_in_curves_and_pictures_without_a_network(heavier, committed, tmp_path):
    committed.run("python", "-m", "tools.plots_page")
    committed.dvc("plots", "diff", "HEAD", "heavier", "--out", str(tmp_path))
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not re.search(r'<(?:script|link)[^>]+(?:src|href)="https?:', page)
    assert "window.vegaEmbed" in page
    for title in ("All parts together (tasks 11 and 16)", "Precision against recall at IoU 0.5"):
        assert title in page
    assert '"rev": "heavier"' in page
    assert len(re.findall(r'src="static/[^"]*detections[^"]*"', page)) == 2


def test_the_two_runs_compare_on_one_page_and_in_the_list_of_all(heavier, committed):
    said = committed.run("python", "-m", "tools.compare", "HEAD", "heavier", "--resamples", "20")
    assert "box AP50" in said
    page = (committed.root / ".cache/compare.html").read_text(encoding="utf-8")
    assert "joint.loss_weights.mask" in page
    assert "All parts together: training losses." in page
    lines = committed.run("python", "-m", "tools.experiments").splitlines()
    assert any(line.startswith("heavier") and "joint.loss_weights.mask=2" in line for line in lines)
    assert max(map(len, lines)) <= 160


def test_a_temporary_run_leaves_the_workspace_alone(heavier, committed):
    before = (committed.root / "params.yaml").read_bytes(), (committed.root / "metrics/summary.json").read_bytes()
    output = committed.dvc("exp", "run", "--temp", "--set-param", "box_head.loss_weights.box_regression=5")
    assert sorted(stages_run(output)) == sorted(["source", "box_head", "mask_head", *AFTER_JOINT])
    assert before == (
        (committed.root / "params.yaml").read_bytes(),
        (committed.root / "metrics/summary.json").read_bytes(),
    )


def test_queued_runs_run(heavier, committed):
    committed.dvc("exp", "run", "--queue", "--name", "strict", "--set-param", "evaluate.score_threshold=0.3")
    committed.dvc("exp", "run", "--run-all")
    assert "strict" in committed.dvc("exp", "list", "--name-only")
    assert "evaluate.score_threshold" in committed.dvc("params", "diff", "heavier", "strict")


def test_a_relative_folder_is_refused_in_a_copy_with_what_to_write(runs):
    course = runs("course")
    course.workspace.commit()
    output = course.workspace.dvc("exp", "run", "--temp", fails=True)
    assert f"-S data.root={course.root}" in output.replace("'", "").replace('"', "")
    assert "Traceback" not in output


def test_an_absolute_folder_works_in_a_copy(runs):
    course = runs("course")
    output = course.workspace.dvc("exp", "run", "--temp", "--set-param", f"data.root='{course.root}'", "ingest")
    assert stages_run(output) == ["source", "ingest"]


def test_a_changed_file_under_the_root_reruns_ingest(runs):
    coco = runs("coco")
    (coco.root / "images" / "note.txt").write_text("new")
    assert re.search(
        r"^ingest:\n.*changed deps:\n.*modified:\s+.*coco", coco.workspace.dvc("status"), flags=re.MULTILINE
    )
    # The pictures are the same, so the dataset file is, and nothing after it runs.
    assert stages_run(coco.workspace.dvc("repro")) == ["ingest"]


def test_going_back_to_a_baseline_leaves_git_clean(heavier, committed):
    """The same settings give the same numbers, to the byte; seconds and the commit stand in no file of Git's."""
    committed.dvc("exp", "run", "--set-param", "joint.loss_weights.mask=1.0")
    changed = committed.run("git", "status", "--porcelain", "--untracked-files=no").splitlines()
    assert {line[3:] for line in changed} <= {"params.yaml"}  # DVC writes it in its own hand

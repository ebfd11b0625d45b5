"""Rows of the table: one a run, or, where a run has both sides, one a detector."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from src.core import paths
from src.core.errors import InputError
from src.core.files import write_json
from src.evaluation.analysis import ImageDetections, write_analyses
from src.evaluation.instances import coco_ground_truth
from src.sources.assignment import CLASSES
from tests.evaluation.test_results import split
from tests.structure.project import PROJECT
from tests.tools.study.samples import write_study
from tools.revisions import WORKSPACE, Revision
from tools.study import results
from tools.study.page import compare, write_page
from tools.study.plan import Study, read_study


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study within runs, and a run's files where a commit's would be: two stages find all, one stage nothing."""
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    variants = {"as it is": {}, "longer": {"one_stage.epochs": 12}}
    write_study(
        detector="one_stage", baseline="two stages", variants=variants, training="one_stage", metrics=["ap", "ap50"]
    )
    truths, analyses = split()
    write_json(paths.GROUND_TRUTH, coco_ground_truth(truths, CLASSES))
    write_analyses(paths.DETECTIONS, analyses)
    nothing = [ImageDetections(one.name, one.found["clip"].keep(one.found["clip"].scores > 2)) for one in analyses]
    write_analyses(paths.ONE_STAGE_DETECTIONS, nothing)
    both = {"mask_rcnn": {"ap": 0.5, "ap50": 0.75}, "one_stage": {"ap": 0.0, "ap50": None}}
    write_json(paths.COMPARISON, {"detectors": both})
    Path("plots/one_stage").mkdir(parents=True)
    for kind in ("train", "test"):
        Path(f"plots/one_stage/{kind}.csv").write_text("iteration,epoch,classification,total\n1,1,2.5,9\n")
    monkeypatch.setattr(results, "git", lambda *_: "1234567\n")
    monkeypatch.setattr(results.Revision, "find", lambda *_: Revision(WORKSPACE, tmp_path))
    return read_study("weights")


def test_a_run_with_both_sides_gives_a_row_to_each(study: Study) -> None:
    frame = results.collect(study, {run.name: "commit" for run in study.runs})
    table = pd.read_csv(study.folder / results.TABLE, dtype=str)
    assert len(table) == 8  # two variants, two seeds, two detectors
    assert frame["variant"].tolist() == ["two stages", "as it is", "two stages", "as it is", "longer", "longer"]
    assert frame.loc[0, ["detector", "ap", "ap50"]].tolist() == ["mask_rcnn", 0.5, 0.75]
    assert frame.loc[1, ["detector", "ap", "test_classification"]].tolist() == ["one_stage", 0.0, 2.5]
    assert pd.isna(frame.loc[0, "test_classification"])
    again = results.collect(study, {})  # the experiments are gone
    pd.testing.assert_frame_equal(again, frame, check_dtype=False)
    assert set(again["commit"]) == {"1234567"}


def test_both_sides_of_a_run_are_compared_on_its_images(study: Study) -> None:
    frame = results.collect(study, {run.name: "commit" for run in study.runs})
    found = compare(study, frame)
    assert [(one.variant, one.mean, one.pairs) for one in found["ap"]] == [("as it is", -0.5, 2), ("longer", -0.5, 2)]
    assert all(one.images is not None and one.images[1] < 0 for one in found["ap"])
    assert found["ap50"] == []  # undefined for one of them
    page = write_page(study, frame).read_text(encoding="utf-8")
    assert "&#39;two stages&#39; is the other detector of the same runs." in page
    assert "4 runs of 4" in page


def test_seconds_of_the_trainings_that_a_run_made_stand_in_its_row(study: Study) -> None:
    for stage, seconds in (("one_stage", 12.5), ("detect", 99.0)):
        write_json(Path(f".cache/runs/{study.runs[0].name}/{stage}.json"), seconds)
    frame = results.collect(study, {run.name: "commit" for run in study.runs})
    assert frame["seconds_one_stage"].dropna().tolist() == [12.5]
    assert "seconds_detect" not in frame
    page = write_page(study, frame).read_text(encoding="utf-8")
    assert "Seconds of each training" in page
    assert ">12.5<" in page


def test_without_detections_a_row_keeps_the_images_it_was_measured_on(study: Study) -> None:
    commits = {run.name: "commit" for run in study.runs}
    before = results.collect(study, commits)
    paths.DETECTIONS.unlink()
    pd.testing.assert_frame_equal(results.collect(study, commits), before, check_dtype=False)
    shutil.rmtree(study.folder)
    assert set(results.collect(study, commits)["images"]) == {"unknown"}


def test_a_metric_that_was_not_measured_is_named(study: Study) -> None:
    write_json(paths.COMPARISON, {"detectors": {"mask_rcnn": {"ap": 0.5, "ap50": 0.75}, "one_stage": {"ap": 0.1}}})
    with pytest.raises(InputError, match=r"metrics/detectors\.json has no number 'detectors\.one_stage\.ap50'"):
        results.collect(study, {study.runs[0].name: "commit"})

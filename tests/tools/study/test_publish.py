"""A study's results for Git: refused while runs are missing, equal to the page's numbers, read back by the report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from src.core.errors import InputError
from src.reporting.answers.studies import FOLDER, PublishedStudy, published
from tests.structure.project import PROJECT
from tests.tools.study.samples import table, write_study
from tools.study import experiments
from tools.study.__main__ import main
from tools.study.page import write_page
from tools.study.plan import Study, read_study
from tools.study.publish import publish
from tools.study.results import TABLE


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    shutil.copytree(PROJECT / "settings", tmp_path / "settings")
    monkeypatch.chdir(tmp_path)
    write_study(metrics=["box_ap"], settings="quick")
    return read_study("weights")


def finished() -> pd.DataFrame:
    return table(one=[0.1, 0.2], four=[0.3, 0.5]).assign(source="emoji", trained_on=112, measured_on=40, split="test")


def test_numbers_are_those_of_the_table(study: Study) -> None:
    frame = finished()
    write_page(study, frame)
    page = publish(study, frame)
    assert page == FOLDER / "weights.md"
    found = published(Path(), "weights", "quick")
    assert found is not None
    assert (found.settings, found.seeds, found.commits, found.baseline) == ("quick", 2, ["abc1234"], "one")
    assert found.data == {"source": "emoji", "train_images": 112, "measured_on": "test", "measured_images": 40}
    assert [(one.variant, one.runs, one.mean) for one in found.spreads] == [
        ("one", 2, pytest.approx(0.15)),
        ("four", 2, pytest.approx(0.4)),
    ]
    (difference,) = found.differences
    assert (difference.variant, difference.mean, difference.images) == ("four", pytest.approx(0.25), None)
    pd.testing.assert_frame_equal(pd.read_csv(FOLDER / "weights.csv"), frame, check_dtype=False)
    text = page.read_text(encoding="utf-8")
    assert "| one | 0.150 ± 0.071 |" in text
    assert "![Paired differences by variant](weights.png)" in text
    assert (FOLDER / "weights.png").is_file()
    assert "settings/quick.yaml" in text


def test_a_study_that_is_not_finished_is_not_published(study: Study) -> None:
    for frame, missing in ((finished()[:3], "1 run"), (pd.DataFrame(), "4 runs")):
        with pytest.raises(InputError, match=f"{missing} of 4 are missing"):
            publish(study, frame)
    assert not FOLDER.exists()


def test_seeds_alone_are_published_without_differences(study: Study) -> None:
    write_study("noise", metrics=["box_ap"], variants={"one": {}}, settings="quick")
    alone = read_study("noise")
    page = publish(alone, finished()[:2])
    found = PublishedStudy.read(FOLDER / "noise.json")
    assert found.differences == []
    assert found.spreads[0].deviation == pytest.approx(0.0707107)
    assert "Paired differences" not in page.read_text(encoding="utf-8")


def test_the_command_publishes_what_the_table_has(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiments, "finished", lambda _: {})
    assert main(["weights", "--publish"]) == 1
    assert "4 runs of 4 are missing" in capsys.readouterr().err
    rows = finished()
    rows["run"] = [run.name for run in study.runs]
    study.folder.mkdir()
    rows.to_csv(study.folder / TABLE, index=False)
    assert main(["weights", "--publish"]) == 0
    assert capsys.readouterr().out.strip() == str((FOLDER / "weights.md").resolve())
    assert main(["weights", "--publish", "--settings", "default"]) == 1  # other runs

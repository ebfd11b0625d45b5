"""The page and its figures, from tables of all sizes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.structure.project import PROJECT
from tests.tools.study.samples import table, write_study
from tools.study.page import compare, write_page
from tools.study.plan import Study, read_study


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    write_study(metrics=["box_ap"], question="Is <4> better & faster?")
    return read_study("weights")


def written(study: Study, frame: pd.DataFrame) -> str:
    return write_page(study, frame).read_text(encoding="utf-8")


def test_the_page_has_every_number_and_stands_alone(study: Study) -> None:
    frame = table(one=[0.1, 0.2], four=[0.301, 0.402])
    frame["test_mask"], frame["pull_mask"], frame["pull_objectness"] = 0.4321, 0.25, 0.75
    page = written(study, frame)
    for text in ("0.150 ± 0.071", "+0.202 ± 0.006 *", "0.432", "4 runs of 4", "abc1234"):
        assert text in page, text
    assert "Is &lt;4&gt; better &amp; faster?" in page
    assert page.count("data:image/png;base64,") == 2
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page)


def test_a_study_that_has_only_begun_has_a_page(study: Study) -> None:
    page = written(study, table(one=[0.1]))
    assert "1 run of 4" in page
    assert "data:image" not in page


def test_runs_of_two_states_of_the_code_are_told(study: Study) -> None:
    frame = table(one=[0.1, 0.2], four=[0.3, 0.5])
    frame.loc[3, "commit"] = "def5678"
    assert "more than one state of the code" in written(study, frame)
    assert "more than one state" not in written(study, table(one=[0.1, 0.2], four=[0.3, 0.5]))


def test_an_undefined_metric_is_left_out_of_its_comparison(study: Study) -> None:
    frame = table(one=[0.1, 0.2], four=[0.3, 0.5])
    frame["box_ap"] = frame["box_ap"].where(frame["variant"] != "four")
    assert "No variant can be compared" in written(study, frame)


def with_draws(study: Study, frame: pd.DataFrame, **values: list[list[float]]) -> None:
    """Three draws of the metric for each run, by variant and seed; the images as they are come first."""
    for variant, seeds in values.items():
        for seed, drawn in enumerate(seeds):
            path = study.folder / f"draws/{variant}-{seed}.mask_rcnn.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame({"box_ap": drawn}).to_csv(path, index=False)


def test_an_interval_over_images_is_of_the_mean_over_seeds_in_each_draw(study: Study) -> None:
    frame = table(one=[0.1, 0.2], four=[0.301, 0.402])
    with_draws(study, frame, one=[[0.1, 0.1], [0.2, 0.4]], four=[[0.301, 0.2], [0.402, 0.8]])
    page = written(study, frame)
    assert "+0.250 to +0.250" in page  # one draw: (0.2 - 0.1 + 0.8 - 0.4) / 2
    assert "holds 95 % of what 1000 draws" in page
    frame.loc[0, "images"] = "other"
    page = written(study, frame)
    assert "+0.250 to" not in page
    assert "how far is not known here" in page


def test_a_run_without_draws_has_no_interval_and_the_others_do(study: Study) -> None:
    frame = table(one=[0.1, 0.2], four=[0.3, 0.4], two=[0.3, 0.4])
    with_draws(study, frame, one=[[0.1, 0.1]] * 2, four=[[0.3, 0.3]] * 2, two=[[0.3, 0.3]])
    compared = compare(study, frame)["box_ap"]
    assert [(one.variant, one.images is None) for one in compared] == [("four", False), ("two", True)]


def test_seeds_alone_have_a_page(study: Study) -> None:
    write_study("seeds", metrics=["box_ap"], variants={"one": {}}, question="How far?")
    page = written(read_study("seeds"), table(one=[0.1, 0.2]))
    assert "Box AP: 0.150 on average" in page
    assert "baseline" not in page.lower()

"""Task 13's words follow the numbers of the run."""

from __future__ import annotations

import copy
from pathlib import Path

from src.reporting.answers.detectors import dense_candidates, task_13
from tests.reporting.runs import CLASSES, METRICS, gap, metrics, training_params, with_params, write_run


def words(tmp_path: Path, **changes: object) -> dict[str, str]:
    return task_13(write_run(tmp_path, metrics(**changes))).words


def test_who_is_ahead_and_by_how_much(tmp_path: Path) -> None:
    assert "two stages are ahead by 0.080" in words(tmp_path)["verdict"]
    behind = {"all": {key: gap(-0.3, -0.4, -0.2) for key in ("ap", "ap50", "ap75")}}
    whole = copy.deepcopy(METRICS["detectors"]["differences"]) | behind
    assert "one stage is ahead by 0.300" in words(tmp_path, detectors__differences=whole)["verdict"]
    whole["all"] = {key: gap(0.1, -0.1, 0.2) for key in ("ap", "ap50", "ap75")}
    assert "may be luck" in words(tmp_path, detectors__differences=whole)["verdict"]
    assert "neither is ahead" in words(tmp_path, detectors__differences=whole | {"all": None})["verdict"]


def test_nothing_is_said_of_a_few_objects(tmp_path: Path) -> None:
    assert "medium and large" in words(tmp_path)["groups"]
    few = METRICS["detectors"]["counts"] | {"large": 9}
    assert "large" not in words(tmp_path, detectors__counts=few)["groups"].replace("largest", "")
    none = METRICS["detectors"]["counts"] | dict.fromkeys((*CLASSES, "medium", "large"), 1)
    assert words(tmp_path, detectors__counts=none)["groups"] == ""


def test_mistakes_objects_and_seconds(tmp_path: Path) -> None:
    found = words(tmp_path)
    assert "0.61 on) the commonest mistake is missed, 20 times" in found["mistakes"]
    assert "14 by two stages alone" in found["objects"]
    assert "3.0 times as fast" in found["cost"]
    nothing = words(tmp_path, detectors__detectors__one_stage__threshold=None)
    assert "one stage found nothing at all" in nothing["mistakes"]


def test_what_the_rival_is(tmp_path: Path) -> None:
    assert "120 s" in words(tmp_path)["rival"] or "2.0 min" in words(tmp_path)["rival"]
    params = with_params(training_params(), "one_stage", epochs=0)
    answer = task_13(write_run(tmp_path, params=params))
    assert "not trained" in answer.words["rival"]
    assert "history" not in answer.figures
    assert [row[0] for row in answer.tables["precision"].rows] == ["all", *CLASSES, "medium", "large"]


def test_candidates_are_the_anchors_from_the_finest_level_on(tmp_path: Path) -> None:
    results = write_run(tmp_path, params=with_params(training_params(), "one_stage", finest_level=4))
    cells = 50 * 68 + 25 * 34 + 13 * 17
    assert dense_candidates(results) == cells * 3 * len(results.params.one_stage.anchor_scales)

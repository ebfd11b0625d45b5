"""What the report cites of studies: numbers of their files alone, with setting and seeds, and nothing without files."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from src.core.errors import InputError
from src.core.params import Params
from src.reporting.answers.joint import task_11
from src.reporting.answers.studies import FOLDER, Difference, PublishedStudy, Spread, published, seed_spreads
from src.reporting.page import build_page
from tests.reporting.runs import training_params, write_run

DATA = {"source": "emoji", "train_images": 240, "measured_on": "test", "measured_images": 80}  # as `write_run` has it
TURNS = Difference("in turns", "box_ap", 3, -0.0314, 0.0123, (-0.0611, -0.0102))
HEADS = Difference("heads alone", "mask_ap", 3, 0.0172, 0.0201, (-0.0303, 0.0404))


def study(name: str, settings: str = "quick", **changes: Any) -> PublishedStudy:
    made = PublishedStudy(
        name=name,
        question="Which?",
        settings=settings,
        data=DATA,
        baseline="end to end",
        seeds=3,
        commits=["abc1234"],
        spreads=[Spread("all", "box_ap50", 5, 0.5, 0.0217), Spread("all", "proposal_recall", 5, 0.9, 0.0125)],
        differences=[TURNS, HEADS],
    )
    return dataclasses.replace(made, **changes)


def put(root: Path, *studies: PublishedStudy) -> None:
    for one in studies:
        one.write(root / FOLDER / f"{one.name}.json")


def quick() -> Params:
    params = training_params()
    return dataclasses.replace(params, report=dataclasses.replace(params.report, settings="quick"))


def page(root: Path, params: Params) -> str:
    results = write_run(root, params=params)
    build_page(results, results.value("summary"), results.value("provenance"), root / "index.html")
    return re.sub(r"\s+", " ", (root / "index.html").read_text(encoding="utf-8"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    for made in (study("schemes"), study("noise", differences=[], commits=[])):
        made.write(tmp_path / "study.json")
        assert PublishedStudy.read(tmp_path / "study.json") == made


def test_without_a_study_nothing_is_said(tmp_path: Path) -> None:
    answer = task_11(write_run(tmp_path))
    assert answer.words["study"] == ""
    assert "study" not in answer.tables
    text = page(tmp_path, quick())
    assert "docs/studies" not in text
    assert "<small>" not in text


def test_a_study_is_cited_with_its_setting_seeds_and_both_intervals(tmp_path: Path) -> None:
    put(tmp_path, study("schemes"))
    answer = task_11(write_run(tmp_path))
    said = answer.words["study"]
    assert "docs/studies/schemes.md; quick setting, 3 seeds, 80 test images of source emoji, code at abc1234" in said
    assert said.endswith("make them: 'in turns' moved box AP by \N{MINUS SIGN}0.031.")
    assert "heads alone" not in said
    assert answer.tables["study"].rows == [
        ["in turns", "box AP", "\N{MINUS SIGN}0.031 (\N{MINUS SIGN}0.044 to \N{MINUS SIGN}0.019)",
         "\N{MINUS SIGN}0.061 to \N{MINUS SIGN}0.010"],
        ["heads alone", "mask AP", "+0.017 (\N{MINUS SIGN}0.003 to +0.037)", "\N{MINUS SIGN}0.030 to +0.040"],
    ]  # fmt: skip


def test_what_a_variant_moved_stands_together_beside_what_chance_would(tmp_path: Path) -> None:
    """By metric, as a study has them: variants take turns."""
    moved = [
        dataclasses.replace(TURNS, variant=variant, metric=metric)
        for metric in ("box_ap", "box_ap50")
        for variant in ("in turns", "heads")
    ]
    unmoved = [dataclasses.replace(TURNS, metric=f"metric {number}", mean=0.0) for number in range(56)]
    put(tmp_path, study("schemes", differences=[*moved, *unmoved]))
    said = task_11(write_run(tmp_path)).words["study"]
    assert "in 60 numbers, of which chance alone would move about 3 by more than seeds do." in said
    text = "box AP by \N{MINUS SIGN}0.031 and box AP50 by \N{MINUS SIGN}0.031"
    assert said.endswith(f": 'in turns' moved {text}; 'heads' moved {text}.")


def test_a_difference_that_other_images_may_not_show_is_not_called_larger(tmp_path: Path) -> None:
    put(tmp_path, study("schemes", differences=[dataclasses.replace(TURNS, images=(-0.09, 0.01))]))
    assert "No difference is larger" in task_11(write_run(tmp_path)).words["study"]


def test_the_page_has_each_study_at_its_task(tmp_path: Path) -> None:
    put(tmp_path, study("schemes"), study("detectors", baseline="two stages"), study("loss_weights"))
    text = page(tmp_path, quick())
    for task, name in ((11, "schemes"), (13, "detectors"), (16, "loss_weights")):
        section = text[text.index(f'id="task-{task}"') : text.index(f'id="task-{task + 1}"')]
        assert f"The study {name} (docs/studies/{name}.md" in section
        assert f"Study {name}, quick setting" in section
    assert text.count("The study ") == 3


def test_the_run_s_own_setting_is_preferred(tmp_path: Path) -> None:
    put(tmp_path, study("schemes"), study("schemes-default", "default"))
    for settings, name in (("quick", "schemes"), ("default", "schemes-default"), ("photos", "schemes")):
        found = published(tmp_path, "schemes", settings)
        assert found is not None
        assert found.name == name


def test_seeds_stand_beside_the_headline_of_the_same_setting_and_data(tmp_path: Path) -> None:
    put(tmp_path, study("noise"))
    text = page(tmp_path, quick())
    plain = re.sub(r"</?a\b[^>]*>", "", text)  # numbers without their links
    assert re.search(r"<dt>box AP50</dt><dd>\S+ <small>± 0\.022</small></dd>", plain)
    assert re.search(r"<dt>proposal recall, part \(b\)</dt><dd>\S+ <small>± 1\.2%</small></dd>", plain)
    assert text.count("<small>") == 2
    assert "Another seed of joint training moves box AP50 by 0.022 and proposal recall by 0.013:" in plain


@pytest.mark.parametrize("other", [{"source": "coco"}, {"measured_images": 40}, {"train_images": 24}, {}])
def test_seeds_of_another_setting_or_other_data_say_nothing(other: dict[str, Any], tmp_path: Path) -> None:
    results = write_run(tmp_path, params=quick())
    put(tmp_path, study("noise", data=DATA | other, settings="quick" if other else "default"))
    assert seed_spreads(results) == {}
    put(tmp_path, study("noise"))
    assert seed_spreads(results) == {"box_ap50": 0.0217, "proposal_recall": 0.0125}


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"spreads": [], "differences": [{"variant": 1}]}', "null"])
def test_a_broken_file_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / FOLDER / "schemes.json"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"schemes\.json: expected a study as .*--publish writes it"):
        task_11(write_run(tmp_path))

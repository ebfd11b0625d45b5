"""What a study runs, and which files are refused before anything is computed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from src.core.errors import InputError
from tests.structure.project import PROJECT
from tests.tools.study.samples import write_study
from tools import settings
from tools.study.plan import override, read_study

SHIPPED = sorted(path.stem for path in (PROJECT / "studies").glob("*.yaml"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    shutil.copytree(PROJECT / "settings", tmp_path / "settings")
    monkeypatch.chdir(tmp_path)


def test_every_variant_runs_with_every_seed_and_the_baseline_comes_first() -> None:
    write_study()
    runs = read_study("weights").runs
    assert [(run.variant, run.seed) for run in runs] == [("one", 0), ("one", 1), ("four", 0), ("four", 1)]
    assert [run.name[:-7] for run in runs] == [f"weights-{run.variant}-seed-{run.seed}" for run in runs]
    assert runs[1].settings == {"joint.seed": 3, "box_head.seed": 6}
    assert runs[3].settings == {"joint.seed": 3, "box_head.seed": 6, "joint.loss_weights.mask": 4.0}


def test_a_run_of_other_settings_has_another_name() -> None:
    """So a result is never taken for one of what a variant is now."""
    write_study()
    names = [run.name for run in read_study("weights").runs]
    write_study(metrics=["mask_ap"], minutes=9, question="Another?")
    assert [run.name for run in read_study("weights").runs] == names
    write_study(variants={"one": {}, "four": {"joint.loss_weights.mask": 4.5}})
    assert [run.name for run in read_study("weights").runs][:2] == names[:2]
    assert not {run.name for run in read_study("weights").runs[2:]} & set(names)
    write_study(base={"report.settings": "else"})
    assert not {run.name for run in read_study("weights").runs} & set(names)


def test_a_study_of_seeds_alone_has_one_variant() -> None:
    write_study(variants={"one": {}})
    study = read_study("weights")
    assert not study.is_comparison
    assert [run.seed for run in study.runs] == [0, 1]


def test_within_runs_the_baseline_is_no_run() -> None:
    variants = {"as it is": {}, "longer": {"one_stage.epochs": 12}}
    write_study(detector="one_stage", baseline="two stages", variants=variants)
    study = read_study("weights")
    assert study.is_comparison
    assert [run.variant for run in study.runs] == ["as it is", "as it is", "longer", "longer"]


def test_another_setting_makes_another_study() -> None:
    """So that results of the quick setting and of the full size stand side by side."""
    write_study(settings="quick")
    small, large = read_study("weights"), read_study("weights", "default")
    assert (small.name, small.setting, large.name, large.setting) == ("weights", "quick", "weights-default", "default")
    assert large.common == {"report.settings": "tried"}
    assert not {run.name for run in small.runs} & {run.name for run in large.runs}
    assert read_study("weights", "quick") == small
    with pytest.raises(InputError, match=r"settings/none\.yaml"):
        read_study("weights", "none")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"question": None}, "no 'question'"),
    ({"extra": 1}, "also 'extra'"),
    ({"minutes": "long"}, "a number for 'minutes'"),
    ({"metrics": "box_ap"}, "a list of names for 'metrics'"),
    ({"metrics": []}, "names of metrics"),
    ({"seeds": {"joint.seed": [1, 2], "box_head.seed": [1]}}, "all of one length"),
    ({"seeds": {"joint.seed": []}}, "all of one length"),
    ({"seeds": {"joint.seed": [1.5]}}, "whole numbers"),
    ({"seeds": {}}, "whole numbers"),
    ({"baseline": "two"}, "'two' one of them"),
    ({"variants": {}}, "variants, 'one' one of them"),
    ({"detector": "three_stages"}, "one of mask_rcnn, one_stage for 'detector'"),
    ({"detector": 1}, "a text for 'detector'"),
    ({"detector": "one_stage"}, "the other detector of their runs, none of them"),
    ({"detector": "one_stage", "baseline": "two stages", "variants": {}}, "none of them"),
    (
        {"detector": "one_stage", "baseline": "two stages", "variants": {"b": {"joint.epochs": 1}}},
        "variant 'b': settings of one_stage alone",
    ),
    ({"variants": {"one": {}, "two": 3}}, "settings by the name"),
    ({"variants": {"one": {}, "b": {"joint.loss_weights.masks": 1.0}}}, "variant 'b': params.yaml has no setting"),
    ({"variants": {"one": {}, "b": {"joint.loss_weights.mask": -1.0}}}, "variant 'b'"),
    ({"variants": {"one": {}, "a b": {}, "a-b": {}}}, "the same letters"),
    ({"base": {"joint.nothing": 1}}, "joint.nothing"),
    ({"settings": "none"}, "settings/none.yaml"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_what_cannot_be_run_is_refused_in_one_line(changes: dict[str, Any], words: str) -> None:
    write_study(**changes)
    with pytest.raises(InputError) as refusal:
        read_study("weights")
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_unknown_study_names_the_known_ones() -> None:
    write_study()
    with pytest.raises(InputError, match="no such file; there are weights"):
        read_study("weight")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_studies_of_the_project_can_be_run(name: str) -> None:
    shutil.copytree(PROJECT / "studies", "studies", ignore=shutil.ignore_patterns("*.csv", "*.png", "*.html"))
    study = read_study(name)
    assert study.seeds >= 3
    assert any(settings.of_file(study.file.settings)), "at a setting that a person can afford"


@pytest.mark.parametrize(
    ("value", "text"),
    [(4.0, "4.0"), (True, "true"), ([1, 2.5], "[1, 2.5]"), ("end_to_end", "'end_to_end'"), ("a'b", r"'a\'b'")],
)
def test_a_setting_is_written_as_hydra_reads_it(value: Any, text: str) -> None:
    assert override("key", value) == f"key={text}"
    parser = pytest.importorskip("hydra.core.override_parser.overrides_parser").OverridesParser.create()
    assert parser.parse_override(override("key", value)).value() == value

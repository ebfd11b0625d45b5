"""dvc.yaml against params.yaml, the stages' code and the files they write.

DVC itself says nothing when a parameter is tracked by no stage, or when a stage imports a module it does not list.
"""

from __future__ import annotations

import ast

import pytest

from tests.structure.project import ORDER, PROJECT, covers, leaves, paths_of, read_yaml
from tools.code_deps import assets, code_deps, is_code, named_assets, rewritten

PIPELINE = read_yaml("dvc.yaml")
STAGES = PIPELINE["stages"]
PARAMS = leaves(read_yaml("params.yaml"))


def outs(stage: str) -> list[str]:
    return paths_of(STAGES[stage]["outs"])


def params_named(stage: str) -> set[str]:
    """What follows `params.` in the stage's own module, up to a key or a section of params.yaml."""
    tree = ast.parse((PROJECT / "stages" / f"{stage}.py").read_text(encoding="utf-8"))
    chains = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = {chain.removeprefix("params.") for chain in chains if chain.startswith("params.")}
    return {name for name in names if any(covers(name, key) for key in PARAMS)}


def test_every_stage_of_the_design_stands_in_its_order():
    assert tuple(STAGES) == ORDER


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_says_what_it_does_and_runs_its_module(stage):
    assert len(STAGES[stage]["desc"]) > 20
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}"


@pytest.mark.parametrize("stage", ORDER)
def test_code_dependencies_are_the_import_graph(stage):
    assert [dep for dep in STAGES[stage]["deps"] if is_code(dep)] == code_deps(stage), "run: make deps"


def test_rewriting_the_lists_changes_nothing_when_they_are_right():
    text = (PROJECT / "dvc.yaml").read_text(encoding="utf-8")
    assert rewritten(text) == text


def test_every_table_and_template_under_src_is_named_by_a_module():
    named = {asset for file in (PROJECT / "src").rglob("*.py") for asset in named_assets(file, PROJECT)}
    assert assets(PROJECT) == named


@pytest.mark.parametrize("key", PARAMS)
def test_every_parameter_is_tracked_by_a_stage(key):
    assert any(covers(entry, key) for stage in STAGES.values() for entry in stage.get("params", []))


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_tracks_parameters_that_exist(stage):
    for entry in STAGES[stage].get("params", []):
        assert any(covers(entry, key) for key in PARAMS), entry


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_tracks_the_parameters_that_its_module_names(stage):
    # tests/pipeline notes the parameters that stages read when they run, also deep in src; this one is quick.
    tracked = STAGES[stage].get("params", [])
    named = params_named(stage)
    assert [chain for chain in named if not any(covers(e, chain) or covers(chain, e) for e in tracked)] == []


def test_a_stage_reads_what_an_earlier_one_writes():
    written: set[str] = set()
    for stage in ORDER:
        data = [dep for dep in STAGES[stage]["deps"] if not is_code(dep) and dep not in ("${data.root}", "pictures")]
        assert set(data) <= written, stage
        written |= set(outs(stage))


def test_loss_weights_touch_nothing_before_their_stage():
    for section in ("rpn", "backbone", "box_head", "mask_head"):
        readers = [s for s in ORDER if any(covers(p, f"{section}.loss_weights") for p in STAGES[s].get("params", []))]
        assert readers[0] == section


def test_only_the_cheap_stages_have_outputs_outside_the_cache():
    loose = {stage for stage in ORDER for out in STAGES[stage]["outs"] if isinstance(out, dict)}
    assert loose == {"source", "report"}, "an uncached output switches the run-cache off for its stage"
    assert not any(
        "persist" in out[path] for s in loose for out in STAGES[s]["outs"] if isinstance(out, dict) for path in out
    )


def test_every_metrics_file_is_declared_and_every_declared_one_written():
    written = {path for stage in ORDER for path in outs(stage) if path.startswith("metrics/")}
    assert set(PIPELINE["metrics"]) == written


def plot_files(entry: str | dict) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    (settings,) = entry.values()
    return list(settings["y"])


def test_every_plot_lies_in_an_output():
    written = tuple(path for stage in ORDER for path in outs(stage))
    for entry in PIPELINE["plots"]:
        for path in plot_files(entry):
            assert any(path == out or path.startswith(f"{out}/") for out in written), path


@pytest.mark.parametrize("entry", [e for e in PIPELINE["plots"] if isinstance(e, dict)], ids=lambda e: next(iter(e)))
def test_a_curve_has_its_title_labels_and_template(entry):
    (settings,) = entry.values()
    assert {"title", "template", "x", "y", "x_label", "y_label"} <= set(settings)

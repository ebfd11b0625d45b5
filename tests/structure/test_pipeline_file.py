"""dvc.yaml against params.yaml, the stages' code and the files they write.

DVC itself says nothing when a parameter is tracked by no stage, or when a stage imports a module it does not list.
"""

from __future__ import annotations

import ast

import pytest

from tests.structure.imports import CODE, imported_modules
from tests.structure.project import (
    EVALUATION,
    ORDER,
    PROJECT,
    TRAINING,
    UNTRACKED,
    covers,
    leaves,
    paths_of,
    read_params,
    read_pipeline,
)

PIPELINE = read_pipeline()
STAGES = PIPELINE["stages"]
PARAMS = leaves(read_params())


def outs(stage: str) -> list[str]:
    return paths_of(STAGES[stage]["outs"])


def params_named(stage: str) -> set[str]:
    """What follows `params.` in the stage's own module, up to a key or a section of params.yaml."""
    tree = ast.parse((PROJECT / "stages" / stage / "__main__.py").read_text(encoding="utf-8"))
    chains = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = {chain.removeprefix("params.") for chain in chains if chain.startswith("params.")}
    return {name for name in names if any(covers(name, key) for key in PARAMS)}


def test_every_stage_of_the_design_stands_in_its_order():
    assert tuple(STAGES) == ORDER


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_says_what_it_does_and_runs_its_module(stage):
    assert len(STAGES[stage]["desc"]) > 20
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}"


def code_folders(stage: str) -> set[str]:
    """Folders of the modules that a stage runs: `src/<package>` and the stage's own. Markers of packages do nothing."""
    modules = imported_modules(PROJECT / "stages" / stage / "__main__.py", PROJECT)
    names = [module.relative_to(PROJECT) for module in modules]
    return {"/".join(name.parts[:2]) for name in names if len(name.parts) > 2}


@pytest.mark.parametrize("stage", ORDER)
def test_code_dependencies_are_the_folders_that_the_stage_imports(stage):
    listed = [dep for dep in STAGES[stage]["deps"] if dep.split("/")[0] in CODE]
    assert sorted(listed) == sorted(code_folders(stage))


def test_the_file_reads_as_prose_and_lists_no_module():
    lines = (PROJECT / "dvc.yaml").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 450
    assert [dep for stage in STAGES.values() for dep in stage["deps"] if dep.endswith(".py")] == []


@pytest.mark.parametrize("folder", ["src", "stages"])
def test_the_packages_above_the_folders_run_nothing_that_a_result_hangs_on(folder):
    tree = ast.parse((PROJECT / folder / "__init__.py").read_text(encoding="utf-8"))
    assert {ast.unparse(node) for node in tree.body if not isinstance(node, ast.Expr)} <= {
        "import src.core.before_torch",
        "import src.core.parent_watchdog",
    }


@pytest.mark.parametrize(("stage", "part"), TRAINING.items())
def test_a_training_stage_writes_weights_and_histories_alone(stage, part):
    assert outs(stage) == [f"models/{part}.pt", f"plots/{stage}"]


@pytest.mark.parametrize("stage", [*TRAINING, "features"])
def test_what_is_expensive_runs_no_code_that_measures_or_draws(stage):
    assert code_folders(stage).isdisjoint({"src/evaluation", "src/figures", "src/reporting"})


@pytest.mark.parametrize("stage", [*EVALUATION, "report"])
def test_an_evaluation_runs_no_code_that_trains(stage):
    assert "src/training" not in code_folders(stage)


@pytest.mark.parametrize("key", PARAMS)
def test_every_parameter_but_the_number_of_processes_is_tracked_by_a_stage(key):
    tracked = any(covers(entry, key) for stage in STAGES.values() for entry in stage.get("params", []))
    assert tracked == (key not in UNTRACKED)


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_tracks_parameters_that_exist(stage):
    for entry in STAGES[stage].get("params", []):
        assert any(covers(entry, key) for key in PARAMS), entry


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_tracks_the_parameters_that_its_module_names(stage):
    # tests/pipeline notes the parameters that stages read when they run, also deep in src; this one is quick.
    tracked = STAGES[stage].get("params", [])
    named = params_named(stage)
    unlisted = [chain for chain in named if not any(covers(e, chain) or covers(chain, e) for e in tracked)]
    assert set(unlisted) <= UNTRACKED


def test_a_stage_reads_what_an_earlier_one_writes():
    written: set[str] = set()
    for stage in ORDER:
        data = {dep for dep in STAGES[stage]["deps"] if dep.split("/")[0] not in CODE}
        data -= {
            "${data.root}",
            "pictures",
            "metrics",
            "plots",
            "docs/studies",
        }  # a person's own, whole folders of results
        assert data <= written, stage
        written |= set(outs(stage))


def test_loss_weights_touch_nothing_before_their_stage():
    for section in ("rpn", "backbone", "box_head", "joint", "one_stage"):
        readers = [s for s in ORDER if any(covers(p, f"{section}.loss_weights") for p in STAGES[s].get("params", []))]
        assert readers[0] == section


def test_the_numbers_of_evaluation_are_in_git_and_nothing_expensive_is_outside_the_cache():
    loose = {(stage, path) for stage in ORDER for out in STAGES[stage]["outs"] if isinstance(out, dict) for path in out}
    assert loose == {
        ("source", "data/source.json"),  # so that a copy of the project always runs it
        ("evaluate_rpn", "metrics/rpn.json"),
        ("evaluate_backbone", "metrics/backbone.json"),
        ("evaluate", "metrics/evaluate.json"),
        ("predict", "metrics/predict.json"),
        ("evaluate", "metrics/summary.json"),
        ("evaluate", "metrics/provenance.json"),
        ("evaluate", "metrics/detectors.json"),
    }, "an uncached output switches the run-cache off for its stage"


def test_the_headline_alone_is_a_metric():
    assert PIPELINE["metrics"] == ["metrics/summary.json"]
    assert "metrics/summary.json" in outs("evaluate")


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

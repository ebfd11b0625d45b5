"""What a finished run leaves: every output, a report of one file, honest lists in dvc.yaml, and nothing more to do."""

from __future__ import annotations

import re

import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.pipeline.workspace import MINUTES, stages_run
from tests.structure.project import ORDER, UNTRACKED, covers, paths_of

pytestmark = pytest.mark.timeout(2 * 60 * MINUTES)  # the first test waits for whole runs

HEADS = ("features", "box_head", "mask_head", "joint", "detect", "evaluate", "report")
MEASURED = ("summary", "provenance", "rpn", "backbone", "evaluate", "detectors", "predict")
IN_GIT = {f"metrics/{name}.json" for name in MEASURED}
HEADLINE = (
    "box_ap",
    "box_ap50",
    "mask_ap",
    "mask_ap50",
    "mask_iou",
    "rpn_accuracy",
    "classifier_accuracy",
    "proposal_recall",
)


def pipeline(run):
    return yaml.safe_load((run.workspace.root / "dvc.yaml").read_text(encoding="utf-8"))


def test_every_stage_ran_once_and_in_order(finished):
    ran = stages_run(finished.output)
    assert sorted(ran) == sorted(ORDER)
    for chain in (
        ("source", "ingest", "prepare", "anchors", "rpn", "evaluate_rpn", "evaluate", "report"),
        ("prepare", "backbone", "evaluate_backbone", "evaluate"),
        ("prepare", "backbone", *HEADS),
        ("joint", "predict", "report"),
        ("backbone", "one_stage", "detect"),
    ):
        assert [stage for stage in ran if stage in chain] == list(chain)


def test_every_metrics_file_is_json_without_nan(finished):
    files = list((finished.workspace.root / "metrics").glob("*.json"))
    assert len(files) == 11
    for path in files:
        assert finished.workspace.json(path.relative_to(finished.workspace.root).as_posix())


def test_the_summary_is_the_headline_and_its_provenance_stands_beside_it(finished):
    summary = finished.workspace.json("metrics/summary.json")
    assert tuple(summary) == HEADLINE
    assert all(value is None or 0 <= value <= 1 for value in summary.values())
    provenance = finished.workspace.json("metrics/provenance.json")
    assert {"source", "images", "backbone", "precision", "threads", "torch"} <= set(provenance)


@pytest.mark.parametrize("cost", ["seconds", "memory"])
def test_every_stage_notes_what_it_took_where_no_stage_looks(cost, finished):
    notes = finished.workspace.root / ".cache" / cost
    assert {path.stem for path in notes.glob("*.json")} == set(ORDER)


def test_the_lock_file_is_short(finished):
    """DVC writes five lines for each folder that a stage lists; with lists of modules there were 2600 in all."""
    assert len((finished.workspace.root / "dvc.lock").read_text(encoding="utf-8").splitlines()) < 1550


def test_every_test_image_is_evaluated(finished):
    ingested, evaluated = (finished.workspace.json(f"metrics/{stage}.json") for stage in ("ingest", "evaluate"))
    assert evaluated["split"] == "test"
    assert evaluated["images"] == ingested["test_images"] > 1


def test_every_declared_curve_has_its_columns(finished):
    for entry in pipeline(finished)["plots"]:
        if isinstance(entry, dict):
            (settings,) = entry.values()
            for path, columns in settings["y"].items():
                table = pd.read_csv(finished.workspace.root / path)
                wanted = {settings["x"], *([columns] if isinstance(columns, str) else columns)}
                assert wanted <= set(table.columns), path
                assert len(table) > 0, path


def test_every_declared_figure_is_a_picture(finished):
    for entry in pipeline(finished)["plots"]:
        path = finished.workspace.root / entry if isinstance(entry, str) else None
        if path and path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
                assert min(picture.size) > 100, path


def test_the_stages_write_nothing_that_dvc_does_not_know(finished):
    root = finished.workspace.root
    known = [out for stage in pipeline(finished)["stages"].values() for out in paths_of(stage["outs"])]
    written = (
        p.relative_to(root).as_posix()
        for f in ("data", "models", "metrics", "plots", "report")
        for p in (root / f).rglob("*")
    )
    tracked = (".gitignore", "README.md")
    loose = [name for name in written if (root / name).is_file() and not name.endswith(tracked)]
    assert [name for name in loose if not any(name == out or name.startswith(f"{out}/") for out in known)] == []


def test_the_report_is_one_file_with_all_tasks_and_no_network(finished):
    page = (finished.workspace.root / "report" / "index.html").read_text(encoding="utf-8")
    assert [number for number in range(1, 19) if f'id="task-{number}"' not in page] == []
    assert len(re.findall(r'<img[^>]*src="data:image/', page)) >= 15
    loads = re.findall(
        r'(?:src|srcset)=["\'](?!data:)[^"\']+|<link[^>]+href=["\'](?!data:)[^"\']+|@import|url\((?!["\']?data:|#)',
        page,
    )
    assert loads == []


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_uses_only_parameters_that_it_tracks(finished, stage):
    tracked = pipeline(finished)["stages"][stage].get("params", [])
    used = finished.workspace.json(finished.workspace.record / f"{stage}.json")["params"]
    unlisted = {key for key in used if not any(covers(entry, key) for entry in tracked)}
    assert unlisted <= UNTRACKED


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_reads_only_files_that_it_lists(finished, stage):
    settings = pipeline(finished)["stages"][stage]
    listed = [*paths_of(settings["deps"]), *paths_of(settings["outs"]), "params.yaml", "dvc.yaml", ".cache"]
    listed += ["dvc.lock"] * (stage == "report")  # which says on the page what made the run; it decides no number
    read = finished.workspace.json(finished.workspace.record / f"{stage}.json")["files"]
    assert [file for file in read if not any(file == path or file.startswith(f"{path}/") for path in listed)] == []


def test_a_second_run_has_nothing_to_do(finished):
    assert stages_run(finished.workspace.dvc("repro")) == []
    assert "up to date" in finished.workspace.dvc("status")


def test_git_sees_only_the_lock_and_the_numbers_of_evaluation(finished):
    changed = finished.workspace.run("git", "status", "--porcelain").split()
    assert set(changed) <= {"??", "A", "M", "AM", "dvc.lock", *IN_GIT}

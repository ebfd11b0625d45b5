"""What a finished run leaves: every output, a report of one file, honest lists in dvc.yaml, and nothing more to do."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from tests.pipeline.workspace import MINUTES, stages_run
from tests.structure.project import ORDER, covers, paths_of

pytestmark = pytest.mark.timeout(2 * 60 * MINUTES)  # the first test waits for whole runs

HEADS = ("box_head", "mask_head", "evaluate", "predict")
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
    return YAML(typ="safe", pure=True).load((run.workspace.root / "dvc.yaml").read_text(encoding="utf-8"))


def test_every_stage_ran_once_and_in_order(finished):
    ran = stages_run(finished.output)
    assert sorted(ran) == sorted(ORDER)
    for chain in (
        ("source", "ingest", "prepare", "anchors", "rpn"),
        ("prepare", "backbone", "features", *HEADS, "report"),
    ):
        assert [stage for stage in ran if stage in chain] == list(chain)


def test_every_metrics_file_is_json_without_nan(finished):
    for path in pipeline(finished)["metrics"]:
        assert finished.workspace.json(path)


def test_the_summary_has_the_headline_numbers_and_their_conditions(finished):
    summary = finished.workspace.json("metrics/summary.json")
    for name in HEADLINE:
        assert summary[name] is None or 0 <= summary[name] <= 1, name
    assert set(summary["seconds"]) >= {"ingest", "rpn", "backbone", "box_head", "mask_head", "evaluate"}
    assert {"source", "images", "backbone", "precision", "threads", "commit"} <= set(summary["measured_on"])


def test_every_test_image_is_evaluated(finished):
    ingested, evaluated = (finished.workspace.json(f"metrics/{stage}.json") for stage in ("ingest", "evaluate"))
    assert evaluated["test_images"] == ingested["test_images"] > 1


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
    loose = [name for name in written if (root / name).is_file() and not name.endswith(".gitignore")]
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
    assert [key for key in used if not any(covers(entry, key) for entry in tracked)] == []


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_reads_only_files_that_it_lists(finished, stage):
    settings = pipeline(finished)["stages"][stage]
    listed = [*paths_of(settings["deps"]), *paths_of(settings["outs"]), "params.yaml", ".cache"]
    read = finished.workspace.json(finished.workspace.record / f"{stage}.json")["files"]
    assert [file for file in read if not any(file == path or file.startswith(f"{path}/") for path in listed)] == []


def test_a_second_run_has_nothing_to_do(finished):
    assert stages_run(finished.workspace.dvc("repro")) == []
    assert "up to date" in finished.workspace.dvc("status")


def test_git_sees_only_the_lock_and_the_summary(finished):
    changed = finished.workspace.run("git", "status", "--porcelain").split()
    assert set(changed) <= {"??", "A", "M", "AM", "dvc.lock", "metrics/summary.json", "metrics/"}

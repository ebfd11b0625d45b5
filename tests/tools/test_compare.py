"""Two runs on one page, from a small repository: workspace, commit, missing outputs, other test images."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src.core.files import write_json
from src.data.dataset import DatasetFile
from src.evaluation.analysis import SecondStageAnalysis, write_analyses
from src.evaluation.instances import GroundTruth, Instances, coco_ground_truth
from src.sources.assignment import CLASSES
from tests.factories import make_prepared
from tests.structure.project import PROJECT
from tools import compare

QUICK = ("--resamples", "5")
SUMMARY = {"box_ap50": 0.5, "mask_iou": None}


def write_run(truth: list[GroundTruth], lost: set[int], root: Path = Path()) -> None:
    """What `detect` would write if it found every object but those of the images in `lost`."""
    analyses = []
    for place, one in enumerate(truth):
        scores = torch.full((len(one.boxes),), 0.1 if place in lost else 0.9)
        found = Instances(one.boxes, one.labels, scores, one.masks)
        nothing = torch.zeros(0)
        columns = dict.fromkeys(("iou_before", "iou_after", "halves_before", "halves_after"), nothing)
        labels = dict.fromkeys(("truth", "predicted"), torch.zeros(0, dtype=torch.int64))
        steps = ("suppressed",) * int((~one.crowd).sum())
        rules = {"remove": found, "clip": found}
        analyses.append(SecondStageAnalysis(one.name, rules, torch.zeros(0, 4), **labels, **columns, lost_at=steps))
    write_analyses(root / "data/detections.jsonl", analyses)
    write_json(root / "data/ground_truth.json", coco_ground_truth(truth, CLASSES))
    write_json(root / "metrics/summary.json", SUMMARY)


def command(*words: str) -> None:
    """A command that is to succeed, in the current folder."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GIT_"))}
    env |= {f"GIT_{role}_{what}": "test@localhost" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(words, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def dvc(*words: str) -> None:
    """A command of DVC."""
    command(sys.executable, "-m", "dvc", *words)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[GroundTruth]]:
    """A committed run that loses nothing; its data in DVC's cache."""
    prepared = make_prepared(tmp_path_factory.mktemp("prepared"), images=10)
    root = tmp_path_factory.mktemp("project")
    (root / "data").mkdir()
    shutil.copy(prepared.with_name("dataset.h5"), root / "data/dataset.h5")
    shutil.copy(PROJECT / "params.yaml", root / "params.yaml")
    with DatasetFile(root / "data/dataset.h5") as dataset:
        truth = [GroundTruth.from_dataset(dataset, row, row + 1) for row in dataset.indices("test")]
    (root / "plots/joint").mkdir(parents=True)
    for name in ("train", "test"):
        (root / f"plots/joint/{name}.csv").write_text("iteration,mask,total\n1,2.0,2.0\n2,1.0,1.0\n")
    write_run(truth, set(), root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        command("git", "init", "-q")
        dvc("init", "-q")
        dvc("add", "-q", "data/dataset.h5", "data/detections.jsonl", "data/ground_truth.json", "plots/joint")
        command("git", "add", "--all")
        command("git", "commit", "-qm", "first")
    return root, truth


@pytest.fixture
def project(made: tuple[Path, list[GroundTruth]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[GroundTruth]:
    """A copy of it to work in, and its test images."""
    shutil.copytree(made[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return made[1]


def test_the_workspace_beside_its_commit(project: list[GroundTruth], capsys: pytest.CaptureFixture[str]) -> None:
    lost = next(place for place, one in enumerate(project) if not one.crowd.all())
    Path("data/detections.jsonl").unlink()
    Path("data/ground_truth.json").unlink()
    write_run(project, {lost})
    params = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(params.replace("rounds: 1 ", "rounds: 3 "), encoding="utf-8")
    shutil.rmtree("plots/joint")
    Path("plots/joint").mkdir()
    Path("plots/joint/train.csv").write_text("iteration,mask,total\n1,4.0,4.0\n2,3.0,3.0\n")
    assert compare.main(["HEAD", "workspace", *QUICK]) == 0
    broken = int((~project[lost].crowd).sum())
    assert f"misses {broken} that it finds" in capsys.readouterr().out
    page = Path(".cache/compare.html").read_text(encoding="utf-8")
    assert "joint.rounds" in page
    assert f"Broken: {broken}" in page
    assert "workspace finds no object that HEAD misses" in page
    assert page.count("data:image/png") == 1 + min(broken, 8) + 1  # the funnel, the objects, one training's losses
    assert "lost at" not in page  # it stands in the pictures
    loads = re.findall(r'(?:src|href)=["\'](?!data:|#)[^"\']+|@import|url\((?!["\']?data:|#)', page)
    assert loads == []


def test_a_run_beside_itself(project: list[GroundTruth], capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["HEAD", "HEAD", "--out", "page.html", *QUICK]) == 0
    assert "No difference" in capsys.readouterr().out
    page = Path("page.html").read_text(encoding="utf-8")
    assert "No setting differs" in page
    assert "No training's losses differ" in page.replace("&#39;", "'").replace("&rsquo;", "'")


def refused(capsys: pytest.CaptureFixture[str], *names: str) -> str:
    """The one line in which the comparison is refused; nothing is written."""
    assert compare.main(names) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert not Path(".cache/compare.html").exists()
    return printed.err


def test_what_is_not_here_is_said_with_what_to_do(
    project: list[GroundTruth], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "nothing: no such run" in refused(capsys, "nothing", "HEAD")
    shutil.rmtree(".dvc/cache")
    assert "no dvc.lock" in refused(capsys, "HEAD", "workspace")
    Path("dvc.lock").write_text("schema: '2.0'\n")
    command("git", "add", "dvc.lock")
    command("git", "commit", "-qm", "lock")
    assert "dvc pull --all-commits" in refused(capsys, "HEAD", "workspace")
    Path("data/detections.jsonl").unlink()
    assert "dvc repro" in refused(capsys, "workspace", "workspace")


def test_other_test_images(project: list[GroundTruth], capsys: pytest.CaptureFixture[str]) -> None:
    others = [dataclasses.replace(one, boxes=one.boxes + 1) for one in project]
    for name in ("data/detections.jsonl", "data/ground_truth.json"):
        Path(name).unlink()
    write_run(others, set())
    said = refused(capsys, "HEAD", "workspace")
    assert f"share no test image (HEAD has {len(project)}, workspace {len(project)}" in said
    for name in ("data/detections.jsonl", "data/ground_truth.json"):
        Path(name).unlink()
    write_run([*others[:1], *project[1:]], set())
    assert compare.main(["HEAD", "workspace", *QUICK]) == 0
    page = Path(".cache/compare.html").read_text(encoding="utf-8")
    assert f"the same {len(project) - 1} test image" in page.replace("\N{NARROW NO-BREAK SPACE}", "")
    assert "Left out: 2 test images" in page


def test_detections_of_another_making_are_named_with_their_run(
    project: list[GroundTruth], capsys: pytest.CaptureFixture[str]
) -> None:
    tree = [json.loads(line) for line in Path("data/detections.jsonl").read_text().splitlines()]
    Path("data/detections.jsonl").unlink()
    lines = [json.dumps({key: value for key, value in one.items() if key != "lost_at"}) for one in tree]
    Path("data/detections.jsonl").write_text("\n".join(lines) + "\n")
    assert "workspace: data/detections.jsonl" in refused(capsys, "HEAD", "workspace")

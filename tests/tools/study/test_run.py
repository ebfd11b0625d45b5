"""A whole study through DVC's queue on two small stages: a run fails, a second call does what is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from src.core.files import write_json
from src.evaluation.analysis import write_analyses
from src.evaluation.instances import coco_ground_truth
from src.reporting.formatting import signed
from src.sources.assignment import CLASSES
from tests.evaluation.test_results import split
from tests.structure.project import PROJECT
from tests.tools.study.samples import write_study

PIPELINE = """
stages:
  joint:
    cmd: python small.py joint
    deps: [small.py]
    params: [joint]
    outs: [plots/joint]
  evaluate:
    cmd: python small.py evaluate
    deps: [small.py, plots/joint]
    params: [joint]
    outs:
      - data/ground_truth.json
      - data/detections.jsonl
      - metrics/evaluate.json: {cache: false}
      - metrics/provenance.json: {cache: false}
"""
STAGES = """
import json, os, pathlib, shutil, sys
from ruamel.yaml import YAML

joint = YAML(typ="safe").load(pathlib.Path("params.yaml"))["joint"]
weight, seed = joint["loss_weights"]["mask"], joint["seed"]
if sys.argv[1] == "joint":
    with open(os.environ["COUNT"], "a") as file:
        file.write(f"{weight} {seed}\\n")
    if weight == 4 and seed == 3 and os.path.exists(os.environ["BROKEN"]):
        sys.exit("broken")
    folder = pathlib.Path("plots/joint")
    folder.mkdir(parents=True)
    rows = "".join(f"{i},1,{weight / i},9,9\\n" for i in range(1, 21))
    (folder / "train.csv").write_text("iteration,epoch,mask,mask_weighted,total\\n" + rows)
    (folder / "test.csv").write_text(f"iteration,mask,mask_weighted,total\\n0,8,9,9\\n20,{weight},9,9\\n")
    (folder / "gradients.csv").write_text("iteration,mask,box,mask_norm\\n1,0.2,0.8,9\\n2,0.4,0.6,9\\n")
else:
    for name in ("data", "metrics"):
        pathlib.Path(name).mkdir(exist_ok=True)
    shutil.copy("truth.json", "data/ground_truth.json")
    lines = [json.loads(line) for line in open("found.jsonl")]
    for line in lines[: seed if weight == 1 else 0]:  # overlooked
        line["found"]["remove"] = {"boxes": [], "labels": [], "scores": [], "masks": [], "proposals": None}
    pathlib.Path("data/detections.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines))
    pathlib.Path("metrics/provenance.json").write_text('{"source": "emoji", "train_images": 8, "torch": "2"}')
    found = {"box_ap": weight / 10 + seed / 100, "classifier": {"recall": 0.5}}
    pathlib.Path("metrics/evaluate.json").write_text(json.dumps(found))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with two stages, a study, and params.yaml's own settings."""
    root = tmp_path / "project"
    root.mkdir()
    shutil.copy(PROJECT / "params.yaml", root)
    (root / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    (root / "small.py").write_text(STAGES, encoding="utf-8")
    (root / ".gitignore").write_text("/plots/\n/data/\n/studies/*/\n/.cache/\n", encoding="utf-8")
    write_study(folder=root / "studies")
    truths, analyses = split()
    write_json(root / "truth.json", coco_ground_truth(truths, CLASSES))
    write_analyses(root / "found.jsonl", analyses)
    (root / "metrics").mkdir()
    (root / "metrics/evaluate.json").write_text("{}", encoding="utf-8")
    (root / ".dvcignore").touch()
    for command in (
        ("git", "init", "--quiet"),
        (sys.executable, "-m", "dvc", "init", "--quiet"),
        (sys.executable, "-m", "dvc", "config", "core.autostage", "true"),
        ("git", "add", "--all"),
        ("git", "commit", "--quiet", "--message", "small"),
    ):
        run(root, *command)
    return root


def run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GIT_", "MAKE"))}
    env |= {f"GIT_{role}_{what}": "test@localhost" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env |= {"PYTHONPATH": str(PROJECT), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    env |= {"COUNT": str(root.parent / "count"), "BROKEN": str(root.parent / "broken")}
    return subprocess.run(
        command, cwd=root, env=env, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def test_a_study_runs_what_is_missing_and_leaves_the_workspace_as_it_was(folder: Path) -> None:
    count, broken = folder.parent / "count", folder.parent / "broken"
    broken.touch()
    first = run(folder, sys.executable, "-m", "tools.study", "weights")
    assert first.returncode == 1
    assert re.search(r"1 runs failed; `dvc queue logs weights-four-seed-1-\w{6}` says why", first.stderr)
    table = pd.read_csv(folder / "studies/weights/results.csv")
    assert [name[:-7] for name in table["run"]] == ["weights-one-seed-0", "weights-one-seed-1", "weights-four-seed-0"]
    assert run(folder, "git", "status", "--porcelain").stdout == ""
    assert not (folder / "dvc.lock").exists()

    broken.unlink()
    count.unlink()
    second = run(folder, sys.executable, "-m", "tools.study", "weights")
    assert second.returncode == 0, second.stderr
    assert "4.0 3" in count.read_text(encoding="utf-8")
    assert "4.0 2" not in count.read_text(encoding="utf-8")  # has its result
    table = pd.read_csv(folder / "studies/weights/results.csv")
    assert table["box_ap"].tolist() == pytest.approx([0.12, 0.13, 0.42, 0.43])
    assert table["classifier.recall"].tolist() == [0.5] * 4
    assert table["test_mask"].tolist() == [1, 1, 4, 4]
    assert table["train_mask"].tolist() == pytest.approx(
        [(1 / 19 + 1 / 20) / 2 * weight for weight in (1, 1, 4, 4)], rel=1e-5
    )
    assert table["pull_mask"].tolist() == pytest.approx([0.3] * 4)
    assert "total" not in " ".join(table.columns)
    assert table["source"].tolist() == ["emoji"] * 4
    assert table["images"].nunique() == 1
    assert table["images"].str.fullmatch("[0-9a-f]{8}").all()
    drawn = [pd.read_csv(folder / f"studies/weights/draws/{name}.mask_rcnn.csv") for name in table["run"]]
    assert drawn[0]["box_ap"][0] != drawn[2]["box_ap"][0]  # the first one overlooks what two images hold
    assert drawn[2]["box_ap"].tolist() == drawn[3]["box_ap"].tolist()
    gains = sum((drawn[2 + seed]["box_ap"] - drawn[seed]["box_ap"])[1:] for seed in (0, 1)) / 2
    low, high = gains.quantile([0.025, 0.975])
    page = (folder / "studies/weights/index.html").read_text(encoding="utf-8")
    assert f"Four: box AP +0.300 ({signed(low)} to {signed(high)} over test images" in page
    assert run(folder, "git", "status", "--porcelain").stdout == ""

    count.unlink()
    third = run(folder, sys.executable, "-m", "tools.study", "weights")
    assert third.returncode == 0
    assert not count.exists()  # nothing left to run

"""A copy of the project with tiny params, and the commands that a person would give in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.structure.project import PROJECT, tracked_files

RECORDER = Path(__file__).parent / "recorder"
MINUTES = 40  # ends what hangs; a whole run takes one on two idle cores with bf16, many on busy ones without

# A twelfth of the canvas, one epoch, narrow heads: every line of every stage runs, nothing is learned.
TINY = {
    "data.emoji.train": 8,
    "data.emoji.test": 4,
    "data.emoji.unannotated": 0.5,
    "data.train_fraction": 0.6,
    "prepare.height": 96,
    "prepare.width": 128,
    "prepare.padded_width": 160,
    "rpn.epochs": 1,
    "rpn.batch_size": 4,
    "rpn.batch_size_per_image": 16,
    "backbone.epochs": 1,
    "backbone.anchor_sizes": [8, 16, 32, 64, 96],
    "backbone.rpn_batch_size_per_image": 32,
    "backbone.box_batch_size_per_image": 8,
    "proposals.pre_nms_top_n": 60,
    "proposals.post_nms_top_n": 60,
    "features.proposals": 24,
    "features.mask_rois": 4,
    "box_head.representation_size": 32,
    "box_head.epochs": 1,
    "box_head.batch_size_per_image": 16,
    "mask_head.channels": 16,
    "mask_head.epochs": 1,
    "joint.epochs": 1,
    "joint.batch_size": 4,
    "joint.box_batch_size_per_image": 16,
    "joint.mask_batch_size_per_image": 4,
    "joint.gradient_interval": 1,
    "one_stage.epochs": 1,
    "one_stage.batch_size": 4,
    "one_stage.channels": 8,
    "evaluate.score_threshold": 0.0,
    "evaluate.detections_per_image": 20,
    "report.images": 2,
    "runtime.precision": "float32",
    "runtime.threads": 1,
}


@dataclass(frozen=True)
class Workspace:
    """A Git and DVC repository of its own at `root`."""

    root: Path

    @property
    def record(self) -> Path:
        """Where the recorder leaves its notes; outside, as it is no part of the project."""
        return self.root.parent / f"{self.root.name}-record"

    def run(self, *command: str, fails: bool = False) -> str:
        """Runs a command and returns all it printed; checks that it succeeds, or that it fails."""
        # Neither the caller's DVC stage nor its Git repository may leak in.
        env = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GIT_"))}
        env |= {
            f"GIT_{role}_{what}": "test@localhost" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        env |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(RECORDER)}
        env |= {"RECORD": str(self.record), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        quiet = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 60 * MINUTES}
        done = subprocess.run(command, cwd=self.root, env=env, check=False, **quiet)
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, f"{' '.join(command)} gave status {done.returncode}:\n{output[-6000:]}"
        return output

    def dvc(self, *arguments: str, fails: bool = False) -> str:
        """Runs DVC."""
        return self.run(sys.executable, "-m", "dvc", *arguments, fails=fails)

    def commit(self) -> None:
        """Commits all that is not ignored, if anything has changed or not."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", "tiny")

    def json(self, path: str) -> Any:
        """Reads a JSON file; NaN and Infinity, which are no JSON, are errors."""
        return json.loads((self.root / path).read_text(encoding="utf-8"), parse_constant=_refuse)

    def set_params(self, values: dict[str, Any]) -> None:
        """Sets dotted keys in params.yaml."""
        yaml, path = YAML(), self.root / "params.yaml"
        tree = yaml.load(path.read_text(encoding="utf-8"))
        for key, value in values.items():
            *sections, last = key.split(".")
            branch = tree
            for section in sections:
                branch = branch[section]
            assert last in branch, key
            branch[last] = value
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(tree, file)


def make_workspace(root: Path, values: dict[str, Any]) -> Workspace:
    """Copies what Git has or could have of the project, without tests, and commits it with tiny params."""
    workspace = Workspace(root)
    workspace.record.mkdir(parents=True)
    for path in tracked_files():
        name = path.relative_to(PROJECT)
        if name.parts[0] != "tests" and name.name != "dvc.lock":
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, root / name)
    workspace.set_params(TINY | values)
    workspace.run("git", "init", "--quiet")
    workspace.commit()
    return workspace


def stages_run(output: str) -> list[str]:
    """Stages that DVC says it ran, in their order."""
    return re.findall(r"Running stage '(\w+)'", output)


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no JSON")

"""What the structural tests share: the project's files as a person would commit them, and dvc.yaml as a tree."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML

PROJECT = Path(__file__).resolve().parents[2]
ORDER = (
    "source",
    "ingest",
    "prepare",
    "anchors",
    "rpn",
    "evaluate_rpn",
    "backbone",
    "evaluate_backbone",
    "features",
    "box_head",
    "mask_head",
    "joint",
    "one_stage",
    "detect",
    "evaluate",
    "predict",
    "report",
)
TRAINING = {  # and what of the detector each leaves
    "rpn": "rpn",
    "backbone": "backbone",
    "box_head": "box_head",
    "mask_head": "mask_head",
    "joint": "detector",
    "one_stage": "one_stage",
}
UNTRACKED = {"runtime.devices", "runtime.nodes"}  # any number of processes gives the same results
EVALUATION = ("evaluate_rpn", "evaluate_backbone", "detect", "evaluate", "predict")


@cache
def tracked_files() -> tuple[Path, ...]:
    """Files in Git and files that could be added: all that is not ignored. Without Git, none."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split("\0")
    return tuple(path for name in names if name and (path := PROJECT / name).is_file())


def read_params() -> Any:
    """params.yaml, which DVC writes in YAML 1.2."""
    return YAML(typ="safe", pure=True).load((PROJECT / "params.yaml").read_text(encoding="utf-8"))


def read_pipeline() -> Any:
    """dvc.yaml, which people write."""
    return yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))


def paths_of(entries: list[Any] | None) -> list[str]:
    """Paths of a list in dvc.yaml whose entries are paths, or mappings of one path to its options."""
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries or []]


def leaves(tree: Any, prefix: str = "") -> list[str]:
    """Dotted names of all values in a tree of mappings."""
    if not isinstance(tree, dict):
        return [prefix]
    return [leaf for key, value in tree.items() for leaf in leaves(value, f"{prefix}.{key}".strip("."))]


def covers(section: str, key: str) -> bool:
    """Whether the dotted `key` is `section` or lies in it."""
    return key == section or key.startswith(f"{section}.")

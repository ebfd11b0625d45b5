"""A workspace as a finished run leaves it, with tiny params, random heads and all files that a benchmark reads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from benchmarks import steps
from src.core import paths
from src.core.files import write_json
from src.core.params import Params
from src.core.params_file import load_params
from src.detector.checkpoints import (
    make_box_head,
    make_mask_head,
    save_detector,
    save_heads,
    save_one_stage,
    start_one_stage,
)
from src.detector.mask_rcnn import MaskRCNN
from src.detector.roi_heads import RoiHeads
from src.sources.assignment import CLASSES
from stages.backbone.__main__ import start_fine_tuning
from stages.features.__main__ import main as cache_features
from tests.factories import make_prepared
from tests.pipeline.workspace import TINY, Workspace
from tests.structure.project import PROJECT

IMAGES = 10  # 8 to train on, 2 to test on


@pytest.fixture(scope="session")
def finished_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace's folder."""
    root = tmp_path_factory.mktemp("finished")
    for name in ("src", "stages", "dvc.yaml"):
        (root / name).symlink_to(PROJECT / name)
    shutil.copy(PROJECT / "params.yaml", root)
    Workspace(root).set_params(TINY)
    before = Path.cwd()
    os.chdir(root)
    try:
        _make_files(load_params())
    finally:
        os.chdir(before)
    return root


def _make_files(params: Params) -> None:
    """Data, anchors, weights and cached features in the current folder."""
    make_prepared(paths.PREPARED.parent, images=IMAGES, prepare=params.prepare)
    write_json(paths.ANCHORS, {"anchors": [[30.0, 40.0], [60.0, 50.0]]})
    detector = start_fine_tuning(params, CLASSES, torch.device("cpu"))
    box_head, mask_head = make_box_head(params, CLASSES), make_mask_head(params, CLASSES)
    with torch.no_grad():
        box_head.cls_score.weight *= 50  # scores that differ
    backbone = {"backbone": detector.backbone, "rpn": detector.rpn, "box_head": detector.roi_heads.box_head}
    heads = {"box_head": box_head, "mask_head": mask_head}
    for path, parts in ((paths.BACKBONE, backbone), (paths.MASK_HEAD, heads)):
        save_heads(path, parts, CLASSES)
    save_detector(MaskRCNN(detector.backbone, detector.rpn, RoiHeads(box_head, mask_head), params), CLASSES)
    save_one_stage(start_one_stage(params, CLASSES, torch.device("cpu")), CLASSES)
    cache_features(params)


@pytest.fixture
def finished(finished_root: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Its params, with the test run inside it."""
    monkeypatch.chdir(finished_root)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return load_params()


@pytest.fixture
def under_bf16(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Grows whenever a baseline enters mixed precision, which stays out: emulated bf16 takes ten seconds a step."""
    noted: list[bool] = []

    @contextmanager
    def noting() -> Iterator[None]:
        noted.append(True)
        yield

    monkeypatch.setattr(steps, "bf16_autocast", noting)
    return noted

"""A finished run with a small random detector, and its export.

Tracing and checked shapes do not go together, so what traces is a program of its own: `python -m
tests.tools.export.project`, in the run's folder, does what `make export` does, or without the extra `export` writes
the torch.export program alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import torch

from src.core import paths
from src.core.params import Params
from src.core.params_file import load_params
from src.detector.checkpoints import load_detector, save_heads
from src.detector.mask_rcnn import MaskRCNN
from src.sources.assignment import CLASSES
from tests.detector.small import TORCHVISION_PROPOSALS
from tests.evaluation.detectors import small_detector, small_params
from tests.factories import make_prepared
from tests.reporting.runs import METRICS, write_metrics
from tests.structure.project import PROJECT
from tools.export import programs
from tools.export.__main__ import FOLDER, main
from tools.export.graph import DetectorGraph

HAS_ONNX: Final = not programs.missing_packages()
SIZES: Final = ((300, 400), (90, 250), (200, 150))  # of pictures, height and width
RULES: Final[dict[str, Any]] = {  # none of them the default
    "border": "clip",
    "box_passes": 2,
    "objectness_power": 0.5,
    "detections_per_image": 20,
    "nms_iou": 0.4,
    "mask_threshold": 0.45,
    "score_threshold": 0.05,
}


def params(**evaluate: Any) -> Params:
    """Of the small detector."""
    whole = small_params(**(RULES | evaluate))
    return dataclasses.replace(
        whole,
        backbone=dataclasses.replace(whole.backbone, anchor_sizes=(8.0, 16.0, 32.0, 64.0, 96.0)),
        proposals=TORCHVISION_PROPOSALS,
        box_head=dataclasses.replace(whole.box_head, representation_size=16),
        mask_head=dataclasses.replace(whole.mask_head, channels=8),
    )


def spread_detector() -> MaskRCNN:
    """No two scores are a saturated 1, whose order is nobody's; not all boxes end across the border."""
    model = small_detector()
    box_head = model.roi_heads.box_head
    factors = {model.rpn.head.cls_logits: 0.02, model.rpn.head.bbox_pred: 0.02, box_head.bbox_pred: 0.2}
    with torch.no_grad():
        for layer, factor in factors.items():
            for parameter in layer.parameters():
                parameter.mul_(factor)
    return model


def write_project(folder: Path) -> Path:
    """Settings, data, a detector whose scores are spread, and metrics."""
    (folder / "params.yaml").write_text(json.dumps(dataclasses.asdict(params())), encoding="utf-8")
    (folder / "data").mkdir()
    make_prepared(folder / "data", 15, sizes=SIZES)
    model = spread_detector()
    parts = {"backbone": model.backbone, "rpn": model.rpn, **dict(model.roi_heads.named_children())}
    save_heads(folder / paths.DETECTOR, parts, CLASSES)
    write_metrics(folder, METRICS)
    return folder


def export(folder: Path) -> subprocess.CompletedProcess[str]:
    """What `make export` says in a folder."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "tests.tools.export.project"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def write_program() -> None:
    """The torch.export program of the detector in this folder."""
    settings = load_params()
    detector, classes = load_detector(settings, torch.get_default_device())
    facts = programs.facts_of(settings, classes)
    programs.write_program(programs.trace(DetectorGraph(detector)), facts, FOLDER / "detector.pt2")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if HAS_ONNX:
        sys.exit(main())
    write_program()

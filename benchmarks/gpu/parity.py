"""Every operator on the device against torchvision's there, and against itself on the processor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch

from benchmarks.gpu import checks_boxes, checks_masks, checks_rois
from benchmarks.gpu.comparison import Check, measure
from benchmarks.gpu.setting import Setting
from src.core.errors import one_line

LONGEST = 200  # characters of an error's line


def run(setting: Setting) -> Iterator[dict[str, Any]]:
    """An entry per check; one that raises has not passed, and the next one goes on."""
    with exact_float32():
        for check in chain(checks_rois.checks(), checks_boxes.checks(), checks_masks.checks()):
            yield checked(check, setting.device)


@contextmanager
def exact_float32() -> Iterator[None]:
    """A GPU's convolutions in whole float32: by default they round their input to TF32's ten bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def checked(check: Check, device: torch.device) -> dict[str, Any]:
    """The check's entry; with an `error` where it could not be made."""
    try:
        return measure(check, device)
    except Exception as error:  # noqa: BLE001 - a kernel that is missing raises what it likes
        facts = {"operator": check.operator, "precision": check.precision, "against": check.against}
        allowed = {"absolute": check.atol, "relative": check.rtol}
        line = f"{type(error).__name__}: {one_line(error)}"[:LONGEST]
        return {**facts, "difference": None, "allowed": allowed, "alike": False, "error": line}


def passed(record: dict[str, Any] | None) -> bool:
    """Whether all checks of the section's record were made, and all are alike."""
    return record is not None and record["state"] == "done" and all(entry["alike"] for entry in record["entries"])

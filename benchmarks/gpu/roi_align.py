"""RoIAlign against torchvision's operator on the device, beside what memory and multipliers would allow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import operators
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.timing import stopwatch
from benchmarks.interleaved import run_interleaved
from benchmarks.operators import Sizes, numbered_boxes, roi_inputs
from src.detector.fpn import STRIDES
from src.ops.roi_align import multiscale_stencil

ROUNDS = 50
BF16 = 2  # bytes of a number


def run(setting: Setting) -> Iterator[dict[str, Any]]:
    """The cases of `make bench`, whose goals are a processor's."""
    for cells in (7, 14):
        for backward in (False, True):
            case = operators.roi_align(cells, backward, setting.sizes, setting.device)
            entry = run_interleaved(case, setting.rounds(ROUNDS), stopwatch(setting.device))
            yield {**entry, "goal": None, "least": least_work(cells, backward, setting.sizes)}


def least_work(cells: int, backward: bool, sizes: Sizes) -> dict[str, dict[str, float | str]]:
    """What ours in bf16 cannot do without, by its name.

    Every feature vector under a box is read once and every cell written once; backward, every cell's gradient is read
    and every feature vector's written, those of 0 too. Each pixel of a cell is multiplied and added.
    """
    planes, boxes = roi_inputs(sizes)
    shapes = [(level.shape[2], level.shape[3]) for level in planes]
    stencil = multiscale_stencil(numbered_boxes(boxes), shapes, STRIDES, sizes.images, cells)
    read, outputs = len(stencil.indices[stencil.weights != 0].unique()), len(stencil.indices)
    vectors = read + outputs
    if backward:
        vectors += outputs + sum(level.numel() for level in planes) // sizes.channels
    flop = 2 * stencil.indices.numel() * sizes.channels * (2 if backward else 1)
    return {"ours, bf16": {"bytes": vectors * sizes.channels * BF16, "flop": flop, "precision": "bf16"}}

"""Parity of RoIAlign and of the sparse pyramid, gradients included."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, roi_align

from benchmarks.gpu.comparison import ROUNDING, Check, checks_of
from benchmarks.gpu.pyramid import Outputs, PyramidWork
from benchmarks.operators import Sizes, bf16_autocast, numbered_boxes, roi_inputs
from src.detector.fpn import STRIDES
from src.ops.roi_align import multiscale_roi_align
from src.ops.roi_align import roi_align as our_roi_align

SIZES = Sizes((320, 448), images=2, proposals=60, channels=32)
CELLS = (7, 14)
FLOAT32, BF16 = torch.float32, torch.bfloat16
NAMES = {FLOAT32: "float32", BF16: "bf16"}

Pool = Callable[[list[Tensor], list[Tensor]], Tensor]  # of levels, and of each image's boxes


def pooled(pool: Pool, device: torch.device, kind: torch.dtype, *, levels: int, wide: bool) -> list[Tensor]:
    """What a pooling gives of random features, and its gradient in them.

    Args:
        pool: the operator.
        device: where it runs.
        kind: what features and the gradient that comes in are rounded to.
        levels: of the pyramid, from P2.
        wide: give the rounded numbers in float32, and in planes: torchvision knows no bf16 everywhere.
    """
    planes, boxes = roi_inputs(SIZES)
    over_the_border = torch.tensor([-30.0, -20, 30, 20])
    moved = [boxes[0], *(some + over_the_border for some in boxes[1:])]
    leaves = []
    for level in planes[:levels]:
        rounded = level.to(kind).to(device)
        leaf = rounded.float() if wide else rounded.contiguous(memory_format=torch.channels_last)
        leaves.append(leaf.requires_grad_())
    found = pool(leaves, [some.to(device) for some in moved])
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(11)).to(kind).to(device, found.dtype)
    return [one.float() for one in [found, *torch.autograd.grad(found, leaves, upstream)]]


def one_level(cells: int, sampling_ratio: int, aligned: bool) -> tuple[Pool, Pool]:
    """RoIAlign on P2, ours and torchvision's."""

    def ours(levels: list[Tensor], boxes: list[Tensor]) -> Tensor:
        return our_roi_align(levels[0], numbered_boxes(boxes), cells, 1 / STRIDES[0], sampling_ratio, aligned)

    def theirs(levels: list[Tensor], boxes: list[Tensor]) -> Tensor:
        return roi_align(levels[0], boxes, cells, 1 / STRIDES[0], sampling_ratio, aligned)

    return ours, theirs


def all_levels(cells: int) -> tuple[Pool, Pool]:
    """RoIAlign over P2..P5, ours and torchvision's."""
    module = MultiScaleRoIAlign(["0", "1", "2", "3"], cells, sampling_ratio=2)

    def ours(levels: list[Tensor], boxes: list[Tensor]) -> Tensor:
        return multiscale_roi_align(levels, numbered_boxes(boxes), cells, STRIDES, aligned=False)

    def theirs(levels: list[Tensor], boxes: list[Tensor]) -> Tensor:
        return module({str(i): level for i, level in enumerate(levels)}, boxes, [SIZES.canvas] * SIZES.images)

    return ours, theirs


def checks() -> Iterator[Check]:
    """All of them."""
    for kind in (FLOAT32, BF16):
        for cells in CELLS:
            yield from _checks(f"multiscale_roi_align P={cells}", all_levels(cells), kind, len(STRIDES))
        for ratio, aligned in ((2, True), (2, False), (-1, True)):
            name = f"roi_align, sampling_ratio {ratio}, {'aligned' if aligned else 'not aligned'}"
            # As many points as pixels: boxes are taken in groups, and each group's gradient is rounded.
            yield from _checks(name, one_level(CELLS[0], ratio, aligned), kind, 1, roundings=1 if ratio > 0 else 8)
    yield from checks_of(
        "sparse pyramid and gradients",
        lambda device: _with_gradients(PyramidWork.draw(SIZES, device), PyramidWork.sparse),
        {"dense maps": lambda device: _with_gradients(PyramidWork.draw(SIZES, device), PyramidWork.dense)},
        atol=1e-4,
        rtol=1e-3,
    )
    yield Check(
        "sparse pyramid",
        "bf16",
        "dense maps",
        lambda device: _in_bf16(device, PyramidWork.sparse),
        lambda device: _in_bf16(device, PyramidWork.dense),
        atol=0.05,
        rtol=4 * ROUNDING,
    )


def _checks(name: str, pools: tuple[Pool, Pool], kind: torch.dtype, levels: int, roundings: int = 1) -> Iterator[Check]:
    """Outputs and gradients; torchvision's from the same rounded numbers in float32, ours in bf16 may round besides."""
    ours, theirs = pools
    return checks_of(
        f"{name} and gradients",
        lambda device: pooled(ours, device, kind, levels=levels, wide=False),
        {"torchvision": lambda device: pooled(theirs, device, kind, levels=levels, wide=True)},
        precision=NAMES[kind],
        atol=1e-4 if kind is FLOAT32 else 1e-3 * roundings,
        rtol=0.0 if kind is FLOAT32 else ROUNDING * roundings,
    )


def _with_gradients(work: PyramidWork, evaluate: Callable[[PyramidWork], Outputs]) -> list[Tensor]:
    outputs = evaluate(work)
    return [outputs[0], outputs[1], *outputs[2], *work.gradients(outputs)]


@torch.no_grad()
def _in_bf16(device: torch.device, evaluate: Callable[[PyramidWork], Outputs]) -> list[Tensor]:
    with bf16_autocast(device):
        outputs = evaluate(PyramidWork.draw(SIZES, device))
    return [outputs[0], outputs[1], *outputs[2]]

"""A training step's forward and backward pass through FPN and RPN head: where the losses look, and everywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.flop import flop_of
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.timing import peak_bytes, stopwatch
from benchmarks.interleaved import BenchmarkCase, run_interleaved
from benchmarks.operators import Sizes, bf16_autocast, numbered_boxes, random_boxes
from src.detector.fpn import STRIDES, FeaturePyramid
from src.detector.rpn import RpnHead
from src.detector.sparse_fpn import SparsePyramid
from src.ops.roi_align import multiscale_roi_align

BODY = (24, 40, 112, 320)  # channels of EfficientNet-Lite0's maps
RATIOS = 3  # anchors per location
ANCHORS, ROIS, MASK_ROIS = 256, 128, 8  # of each image, as joint training draws them by default
SIDES = (7, 14)  # cells of the grids for the box head and the mask head
ROUNDS = 30

Outputs = tuple[Tensor, Tensor, list[Tensor]]  # logits and deltas of the anchors, features of the RoIs


@dataclass(frozen=True)
class PyramidWork:
    """Maps of a body, the layers over them, and where the losses look.

    Attributes:
        fpn: the pyramid's convolutions.
        head: the RPN's.
        maps: the body's, which do not learn.
        anchors: numbers of each image's sampled anchors.
        rois: (image index, x1, y1, x2, y2) for each of `SIDES`.
    """

    fpn: FeaturePyramid
    head: RpnHead
    maps: Sequence[Tensor]
    anchors: Sequence[Tensor]
    rois: Sequence[Tensor]

    @classmethod
    def draw(cls, sizes: Sizes, device: torch.device) -> PyramidWork:
        """The same ones at every call, on any device."""
        torch.manual_seed(0)
        draw, (height, width) = torch.Generator().manual_seed(1), sizes.canvas
        fpn, head = FeaturePyramid(BODY, sizes.channels), RpnHead(sizes.channels, RATIOS)
        shapes = [(sizes.images, n, height // s, width // s) for n, s in zip(BODY, STRIDES, strict=True)]
        maps = [torch.randn(shape, generator=draw) for shape in shapes]
        deepest = shapes[-1]
        cells = sum(shape[2] * shape[3] for shape in shapes) + (deepest[2] + 1) // 2 * ((deepest[3] + 1) // 2)
        anchors = [torch.randint(cells * RATIOS, (ANCHORS,), generator=draw) for _ in range(sizes.images)]
        rois = [
            numbered_boxes([random_boxes(count, draw, sizes.canvas) for _ in range(sizes.images)])
            for count in (ROIS, MASK_ROIS)
        ]
        return cls(
            fpn.to(device).to(memory_format=torch.channels_last),
            head.to(device).to(memory_format=torch.channels_last),
            [level.to(device).contiguous(memory_format=torch.channels_last) for level in maps],
            [some.to(device) for some in anchors],
            [some.to(device) for some in rois],
        )

    def sparse(self) -> Outputs:
        """Ours, as `MaskRCNN.losses` does it."""
        pyramid = SparsePyramid(self.fpn, self.fpn.top_down(self.maps))
        return pyramid.evaluate(self.head, self.anchors, list(zip(self.rois, SIDES, strict=True)))

    def dense(self) -> Outputs:
        """The same from whole maps."""
        levels = self.fpn(self.maps)
        logits, deltas = (torch.cat(parts, 1) for parts in zip(*(self.head(level) for level in levels), strict=True))
        pooled = [
            multiscale_roi_align(levels[: len(STRIDES)], boxes, side, STRIDES)
            for boxes, side in zip(self.rois, SIDES, strict=True)
        ]
        chosen = list(enumerate(self.anchors))
        return (
            torch.cat([logits[image, places] for image, places in chosen]),
            torch.cat([deltas[image, places] for image, places in chosen]),
            pooled,
        )

    def gradients(self, outputs: Outputs) -> list[Tensor]:
        """Of the outputs' mean squares, in every weight and bias."""
        parts = [outputs[0], outputs[1], *outputs[2]]
        total = torch.stack([part.float().square().mean() for part in parts]).sum()
        return list(torch.autograd.grad(total, [*self.fpn.parameters(), *self.head.parameters()]))


def run(setting: Setting) -> Iterator[dict[str, Any]]:
    """Sparse and dense in both precisions."""
    work = PyramidWork.draw(setting.sizes, setting.device)
    calls = {
        "ours, bf16": step(work, work.sparse, lambda: bf16_autocast(setting.device)),
        "dense, bf16": step(work, work.dense, lambda: bf16_autocast(setting.device)),
        "dense, float32": step(work, work.dense, contextlib.nullcontext),
        "ours, float32": step(work, work.sparse, contextlib.nullcontext),
    }
    height, width = setting.sizes.canvas
    case = BenchmarkCase(
        work="FPN and RPN head where the losses look, forward and backward",
        conditions=f"{setting.sizes.images} images of {height}x{width}, {ANCHORS} anchors, {ROIS} and {MASK_ROIS} RoIs "
        f"per image, {setting.sizes.channels} channels; dense: RoIAlign is ours too; float32 is PyTorch's default, in "
        "which a GPU's convolutions are TF32 and its products are not",
        implementations=calls,
    )
    least = {name: {"flop": flop_of(call), "precision": name.rpartition(", ")[2]} for name, call in calls.items()}
    entry = run_interleaved(case, setting.rounds(ROUNDS), stopwatch(setting.device))
    memory = peak_bytes({name: _make(call) for name, call in calls.items()}, setting.device)
    yield {**entry, "least": least, "peak_bytes": memory}


def step(
    work: PyramidWork, evaluate: Callable[[], Outputs], precision: Callable[[], AbstractContextManager[Any]]
) -> Callable[[], None]:
    """A forward and a backward pass."""

    def call() -> None:
        with precision():
            outputs = evaluate()
        work.gradients(outputs)

    return call


def _make(call: Callable[[], None]) -> Callable[[], Callable[[], None]]:
    """The maps and layers are there already: what is measured is what a pass needs besides."""
    return lambda: call

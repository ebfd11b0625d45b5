"""The operators beside torchvision's, on any device: RoIAlign, matching, pasting; and the wide convolutions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops import box_iou as torchvision_iou

from benchmarks.interleaved import BenchmarkCase
from src.core.nnpack import has_nnpack
from src.detector.fpn import STRIDES
from src.ops.anchors import PYRAMID_STRIDES, grid_anchors, size_ratio_anchors
from src.ops.boxes import encode
from src.ops.convolution import FastConv2d
from src.ops.masks import paste_masks
from src.ops.matching import EVERYWHERE, MatchThresholds, label_anchors
from src.ops.roi_align import multiscale_roi_align

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Sizes:
    """How much work the cases are.

    Attributes:
        canvas: H, W in pixels.
        images: in a minibatch.
        proposals: per image.
        channels: of the pyramid.
    """

    canvas: tuple[int, int] = (800, 1088)
    images: int = 2
    proposals: int = 200
    channels: int = 256


FULL = Sizes()


def bf16_autocast(device: torch.device = CPU) -> torch.autocast:
    """PyTorch's mixed precision in bf16, as the baselines are run under it."""
    return torch.autocast(device.type, dtype=torch.bfloat16)


def cases(sizes: Sizes = FULL) -> Iterator[Callable[[], BenchmarkCase]]:
    """Makers of all cases on the processor; a case holds its tensors only while it runs."""
    for cells in (7, 14):
        for backward in (False, True):
            yield functools.partial(roi_align, cells, backward, sizes)
    for channels, kernel, stride in (((sizes.channels, sizes.channels), 3, 4), ((64, 128), 5, 8)):
        yield functools.partial(convolution, channels, kernel, stride, sizes)
    yield functools.partial(matching, sizes)
    yield functools.partial(pasting, sizes)


def random_boxes(count: int, draw: torch.Generator, size: tuple[int, int], longest: float = 600.0) -> Tensor:
    """Boxes of 16 to `longest` pixels a side, evenly over the logarithm, clipped to a canvas of (H, W) `size`."""
    canvas = torch.tensor([size[1], size[0]], dtype=torch.float32)
    centers = torch.rand(count, 2, generator=draw) * canvas
    halves = 8 * (longest / 16) ** torch.rand(count, 2, generator=draw)
    return torch.cat([(centers - halves).clamp(min=0), torch.minimum(centers + halves, canvas)], dim=1)


def roi_inputs(sizes: Sizes, device: torch.device = CPU) -> tuple[list[Tensor], list[Tensor]]:
    """P2..P5 of a minibatch, contiguous, and each image's boxes; always the same ones."""
    draw, (height, width) = torch.Generator().manual_seed(0), sizes.canvas
    shapes = [(sizes.images, sizes.channels, height // stride, width // stride) for stride in STRIDES]
    planes = [torch.randn(shape, generator=draw).to(device) for shape in shapes]
    return planes, [random_boxes(sizes.proposals, draw, sizes.canvas).to(device) for _ in range(sizes.images)]


def numbered_boxes(boxes: Sequence[Tensor]) -> Tensor:
    """All images' boxes as (image index, x1, y1, x2, y2)."""
    return torch.cat([torch.nn.functional.pad(some, (1, 0), value=image) for image, some in enumerate(boxes)])


def roi_align(cells: int, backward: bool, sizes: Sizes = FULL, device: torch.device = CPU) -> BenchmarkCase:
    """RoIAlign over P2..P5, forward, or forward with backward."""
    planes, boxes = roi_inputs(sizes, device)
    rows = [level.contiguous(memory_format=torch.channels_last) for level in planes]
    numbered = numbered_boxes(boxes)
    theirs = MultiScaleRoIAlign(["0", "1", "2", "3"], cells, sampling_ratio=2)

    def pool_ours(levels: list[Tensor], aligned: bool = True) -> Tensor:
        return multiscale_roi_align(levels, numbered, cells, STRIDES, aligned=aligned)

    def pool_theirs(levels: list[Tensor]) -> Tensor:
        return theirs({str(number): level for number, level in enumerate(levels)}, boxes, [sizes.canvas] * sizes.images)

    def under_autocast(levels: list[Tensor]) -> Tensor:
        with bf16_autocast(device):
            return pool_theirs(levels)

    run = with_gradient if backward else without_gradient
    halves = [level.bfloat16() for level in rows]
    difference = float((pool_ours(rows, aligned=False) - pool_theirs(planes)).abs().max())
    return BenchmarkCase(
        work=f"RoIAlign P={cells}, {'forward and backward' if backward else 'forward'}",
        conditions=f"{sizes.images} images x {sizes.proposals} proposals over P2..P5 of {sizes.canvas[0]}x"
        f"{sizes.canvas[1]}, {sizes.channels} channels",
        implementations={
            "ours, bf16": lambda: run(pool_ours, halves),
            "torchvision, float32": lambda: run(pool_theirs, planes),
            "torchvision, bf16 autocast": lambda: run(under_autocast, halves),
            "ours, float32": lambda: run(pool_ours, rows),
        },
        goal=4.0 if backward else 8.0,
        agreement=f"largest difference in float32 with torchvision's unaligned boxes: {difference:.1e}",
    )


def without_gradient(pool: Callable[[list[Tensor]], Tensor], levels: list[Tensor]) -> None:
    """One pooling without a graph."""
    with torch.no_grad():
        pool(levels)


def with_gradient(pool: Callable[[list[Tensor]], Tensor], levels: list[Tensor]) -> None:
    """One pooling and its gradient in every level."""
    leaves = [level.detach().requires_grad_() for level in levels]
    pooled = pool(leaves)
    torch.autograd.grad(pooled, leaves, torch.ones_like(pooled))


def pyramid_grids(sizes: Sizes) -> list[tuple[int, int]]:
    """Rows and columns of P2..P5 and the pooled level."""
    return [(math.ceil(sizes.canvas[0] / stride), math.ceil(sizes.canvas[1] / stride)) for stride in PYRAMID_STRIDES]


def convolution(channels: tuple[int, int], kernel: int, stride: int, sizes: Sizes = FULL) -> BenchmarkCase:
    """A wide convolution on a large map: P2's output, and the fourth of part (a)."""
    draw = torch.Generator().manual_seed(3)
    height, width = (math.ceil(side / stride) for side in sizes.canvas)
    layer = FastConv2d(*channels, kernel, padding=kernel // 2)
    features = torch.randn(1, channels[0], height, width, generator=draw)

    @torch.inference_mode()
    def ours() -> Tensor:
        return layer(features)

    @torch.inference_mode()
    def theirs() -> Tensor:
        return nn.Conv2d.forward(layer, features)

    expected = theirs()
    apart = ((ours() - expected).abs().max() / expected.abs().max()).item()
    return BenchmarkCase(
        work=f"Convolution {kernel} x {kernel}",
        conditions=f"{channels[0]} to {channels[1]} channels on {height} x {width}, one image, no gradient",
        implementations={"ours, float32": ours, "torch, float32": theirs},
        goal=2.0 if has_nnpack() else 1.0,
        agreement=f"within {apart:.0e} of the largest output",
    )


def matching(sizes: Sizes = FULL) -> BenchmarkCase:
    """Labels and deltas of one image's anchors, of which all lie in reach."""
    draw = torch.Generator().manual_seed(1)
    grids = pyramid_grids(sizes)
    anchors = torch.cat(
        [
            grid_anchors(size_ratio_anchors(size, (0.5, 1.0, 2.0)).round(), *grid, stride)
            for size, grid, stride in zip((32, 64, 128, 256, 512), grids, PYRAMID_STRIDES, strict=True)
        ]
    )
    boxes = random_boxes(2, draw, sizes.canvas)
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))

    def ours() -> Tensor:
        labels = label_anchors(anchors, boxes, EVERYWHERE, MatchThresholds(0.7, 0.3))
        positive = (labels >= 0).nonzero().squeeze(1)
        encode(boxes[labels[positive]], anchors[positive])
        return labels

    def theirs() -> Tensor:
        matches = matcher(torchvision_iou(boxes, anchors))
        coder.encode([boxes[matches.clamp(min=0)]], [anchors])
        return matches

    same = int((ours() == theirs()).sum())
    return BenchmarkCase(
        work="Matching and encoding",
        conditions=f"one image's {len(anchors):,} anchors, {len(boxes)} objects; torchvision encodes all anchors, "
        "ours those that the loss can use",
        implementations={"ours, float32": ours, "torchvision, float32": theirs},
        goal=1.0,
        agreement=f"{same:,} of {len(anchors):,} labels alike",
    )


def pasting(sizes: Sizes = FULL) -> BenchmarkCase:
    """100 masks of 28 x 28 into a picture."""
    draw = torch.Generator().manual_seed(2)
    masks, boxes = torch.rand(100, 28, 28, generator=draw), random_boxes(100, draw, sizes.canvas)
    return BenchmarkCase(
        work="Pasting 100 masks",
        conditions=f"28x28 cells into {sizes.canvas[0]}x{sizes.canvas[1]} pixels, boxes of 16 to 600 pixels a side",
        implementations={
            "ours, float32": lambda: paste_masks(masks, boxes, *sizes.canvas),
            "torchvision, float32": lambda: paste_masks_in_image(masks[:, None], boxes, sizes.canvas),
        },
        goal=1.0,
        agreement="by design apart: torchvision rounds boxes to whole pixels",
    )

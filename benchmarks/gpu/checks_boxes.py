"""Parity of what is done with boxes: anchors, overlaps, deltas, borders, matching, sampling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import boxes as theirs
from torchvision.ops.poolers import LevelMapper

from benchmarks.gpu.comparison import Check, checks_of
from benchmarks.operators import FULL, pyramid_grids, random_boxes
from src.ops import boxes as ours
from src.ops.anchors import grid_anchors, size_ratio_anchors
from src.ops.matching import EVERYWHERE, MatchThresholds, label_anchors, match_rois
from src.ops.sampling import sample
from src.ops.stencil import assign_levels

CANVAS = FULL.canvas
ANCHOR_SIZES, RATIOS = (32, 64, 128, 256, 512), (0.5, 1.0, 2.0)
BOXES = 300
SMALLEST = 40.0  # pixels, of a side
CODER = BoxCoder((1.0, 1.0, 1.0, 1.0))


def some_boxes(seed: int, device: torch.device, count: int = BOXES) -> Tensor:
    """Boxes on and over the canvas's border; the first one is empty."""
    draw = torch.Generator().manual_seed(seed)
    moved = random_boxes(count, draw, CANVAS) + 40 * torch.randn(count, 1, generator=draw)
    moved[0, 2:] = moved[0, :2]
    return moved.to(device)


def deltas(device: torch.device) -> Tensor:
    """Some of them beyond the largest ratio."""
    return 2 * torch.randn(BOXES, 4, generator=torch.Generator().manual_seed(3)).to(device)


def anchors(device: torch.device) -> list[Tensor]:
    """Of the whole pyramid, strides whole numbers as in torchvision."""
    levels = []
    for size, grid in zip(ANCHOR_SIZES, pyramid_grids(FULL), strict=True):
        stride = (CANVAS[0] // grid[0], CANVAS[1] // grid[1])
        levels.append(grid_anchors(size_ratio_anchors(size, RATIOS).round().to(device), *grid, stride))
    return [torch.cat(levels)]


def torchvision_anchors(device: torch.device) -> list[Tensor]:
    """The same by torchvision."""
    make = AnchorGenerator(tuple((size,) for size in ANCHOR_SIZES), (RATIOS,) * len(ANCHOR_SIZES))
    images = ImageList(torch.zeros(1, 3, *CANVAS, device=device), [CANVAS])
    return list(make(images, [torch.zeros(1, 1, *grid, device=device) for grid in pyramid_grids(FULL)]))


def labels(device: torch.device) -> Tensor:
    """What the pyramid's anchors are to learn of a few objects."""
    return label_anchors(anchors(device)[0], objects(device), EVERYWHERE, MatchThresholds(0.7, 0.3))


def objects(device: torch.device) -> Tensor:
    """Ground truth inside of the canvas."""
    return random_boxes(5, torch.Generator().manual_seed(4), CANVAS).to(device)


def torchvision_labels(device: torch.device) -> Tensor:
    """The same by torchvision."""
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
    return matcher(theirs.box_iou(objects(device), torchvision_anchors(device)[0]))


def roi_labels(device: torch.device) -> Tensor:
    """Matches of RoIs, the last object being a crowd."""
    truth = objects(device)
    return match_rois(some_boxes(1, device), truth[:-1], truth[-1:], 0.5)


def drawn(device: torch.device) -> list[Tensor]:
    """The anchors that the same seed draws."""
    found = sample(labels(device), 256, 0.5, torch.Generator().manual_seed(5))
    return [found.indices, found.truth]


def checks() -> Iterator[Check]:
    """All of them."""
    border = (0, 0, CANVAS[1], CANVAS[0])
    yield from checks_of("anchors", anchors, {"torchvision": torchvision_anchors})
    yield from _checks("box_iou", lambda a, b: ours.box_iou(a, b[1:]), lambda a, b: theirs.box_iou(a, b[1:]), 1e-6)
    yield from checks_of(
        "intersection_over_area",
        lambda device: [ours.intersection_over_area(some_boxes(1, device), some_boxes(2, device))],
        {},
        atol=1e-6,
    )
    yield from _checks("clip", lambda a, _: ours.clip(a, border), lambda a, _: theirs.clip_boxes_to_image(a, CANVAS))
    yield from _checks(
        "is_not_empty",
        lambda a, _: ours.is_not_empty(a, SMALLEST).nonzero().squeeze(1),
        lambda a, _: theirs.remove_small_boxes(a, SMALLEST),
    )
    yield from _checks(
        "encode", lambda a, b: ours.encode(a[1:], b[1:]), lambda a, b: CODER.encode_single(a[1:], b[1:]), 1e-5
    )
    yield from _checks(
        "decode",
        lambda a, _: ours.decode(deltas(a.device), a),
        lambda a, _: CODER.decode_single(deltas(a.device), a),
        1e-3,
    )
    yield from _checks("assign_levels", lambda a, _: assign_levels(a), lambda a, _: LevelMapper(2, 5)([a]))
    yield from checks_of("label_anchors", lambda d: [labels(d)], {"torchvision": lambda d: [torchvision_labels(d)]})
    yield from checks_of("match_rois", lambda device: [roi_labels(device)], {})
    yield from checks_of("sample", drawn, {})


def _checks(name: str, mine: Any, other: Any, atol: float = 0.0) -> Iterator[Check]:
    """Of a function of two sets of boxes."""

    def on(function: Any) -> Any:
        return lambda device: [function(some_boxes(1, device), some_boxes(2, device))]

    return checks_of(name, on(mine), {"torchvision": on(other)}, atol=atol)

"""A small grid of part (a)'s anchors, and pictures with known boxes to label it with."""

from __future__ import annotations

import torch
from torch import Tensor

from src.data.letterbox import Letterbox
from src.data.prepared import Example
from src.ops.anchors import cell_anchors, grid_anchors
from src.ops.matching import MatchThresholds
from src.plain_rpn.anchor_grid import AnchorGrid
from src.structures.target import Target

ROWS, COLUMNS = 6, 8
REGION = (11.0, 0.0, 117.0, 96.0)  # 11 columns of padding on either side of a canvas of 128 x 96
LETTERBOX = Letterbox(96, 106, 128, 96, 106)
THRESHOLDS = MatchThresholds(high=0.7, low=0.3)
BOX = torch.tensor([[30.0, 22.0, 62.0, 58.0]])


def small_grid() -> AnchorGrid:
    """One anchor of 32 x 32 pixels per cell."""
    anchors = grid_anchors(cell_anchors([(32, 32)]), ROWS, COLUMNS, 16, offset=0.5)
    return AnchorGrid(anchors, ROWS, COLUMNS, THRESHOLDS)


def target_of(boxes: Tensor, crowd: Tensor | None = None) -> Target:
    """Vehicles at the boxes, without masks."""
    masks = torch.zeros(0, 16 * ROWS, 16 * COLUMNS, dtype=torch.bool)
    labels = torch.ones(len(boxes), dtype=torch.int64)
    return Target(boxes, labels, masks, torch.zeros(0, 4) if crowd is None else crowd)


def example_with(boxes: Tensor, crowd: Tensor | None = None) -> Example:
    """A black picture with vehicles at the boxes."""
    image = torch.zeros(3, 16 * ROWS, 16 * COLUMNS, dtype=torch.uint8)
    return Example(0, "test", image, target_of(boxes, crowd), LETTERBOX)

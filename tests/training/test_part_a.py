"""Part (a)'s anchor grid as the parameters ask for it."""

from __future__ import annotations

import dataclasses

import torch

from src.data.transform import Frame
from src.ops.anchors import cell_anchors, grid_anchors
from src.ops.matching import MatchThresholds
from src.params import RpnLossWeights, RpnParams
from src.training.part_a import AnchorGrid

FRAME = Frame(800, 1066, 1088, 300, 400)
PARAMS = RpnParams(1, 1, 1e-3, 0.0, 0.7, 0.3, 64, flip=False, loss_weights=RpnLossWeights(1.0, 1.0), seed=1)


def test_the_grid_has_the_parameters_thresholds_and_the_picture_s_frame() -> None:
    grid = AnchorGrid.of([(120, 100), (60, 70)], FRAME, dataclasses.replace(PARAMS, positive_iou=0.6, negative_iou=0.2))
    assert grid.thresholds == MatchThresholds(high=0.6, low=0.2)
    assert (grid.rows, grid.columns, grid.content) == (50, 68, (11, 0, 1077, 800))
    assert torch.equal(grid.anchors, grid_anchors(cell_anchors([(120, 100), (60, 70)]), 50, 68, 16, offset=0.5))
    assert torch.equal(grid.at(49, 67), grid.anchors[-2:])

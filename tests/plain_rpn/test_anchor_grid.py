"""Part (a)'s anchor grid as the parameters ask for it, and its losses by the annotated boxes."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from src.core.params import RpnLossWeights, RpnParams
from src.data.letterbox import Frame
from src.ops.anchors import cell_anchors, grid_anchors
from src.ops.boxes import encode
from src.ops.matching import IGNORED, NEGATIVE, MatchThresholds
from src.plain_rpn.anchor_grid import AnchorGrid
from src.plain_rpn.detector import PlainRpn
from src.plain_rpn.network import PlainRpnNetwork
from src.structures.image_list import ImageList
from src.structures.target import Target

FRAME = Frame(800, 1066, 1088)
SMALL = Frame(96, 128, 160)
REGION = SMALL.letterbox(300, 400).region
PARAMS = RpnParams(1, 1, 1e-3, 0.0, 0.7, 0.3, 64, flip=False, loss_weights=RpnLossWeights(1.0, 1.0), seed=1)


def target_of(boxes: Tensor, crowd: Tensor | None = None) -> Target:
    """Vehicles at the boxes of the small canvas, without masks."""
    labels, masks = torch.ones(len(boxes), dtype=torch.int64), torch.zeros(0, 96, 160, dtype=torch.bool)
    return Target(boxes, labels, masks, torch.zeros(0, 4) if crowd is None else crowd)


def test_the_grid_has_the_parameters_thresholds_and_covers_the_canvas() -> None:
    sizes, params = [(120, 100), (60, 70)], dataclasses.replace(PARAMS, fg_iou_thresh=0.6, bg_iou_thresh=0.2)
    grid = AnchorGrid.from_params(sizes, FRAME, params)
    assert grid.thresholds == MatchThresholds(high=0.6, low=0.2)
    assert (grid.rows, grid.columns) == (50, 68)
    assert torch.equal(grid.anchors, grid_anchors(cell_anchors(sizes), 50, 68, 16, offset=0.5))
    assert torch.equal(grid.at(49, 67), grid.anchors[-2:])


def test_labels_index_the_target_s_boxes_and_crowd_regions_are_ignored() -> None:
    grid = AnchorGrid.from_params([(32, 32)], SMALL, PARAMS)
    boxes, crowd = torch.tensor([[56.0, 40, 88, 72], [24, 8, 56, 40]]), torch.tensor([[88.0, 0, 144, 96]])
    labels = grid.label(target_of(boxes, crowd), REGION).reshape(grid.rows, grid.columns)
    assert (int(labels[3, 4]), int(labels[1, 2])) == (0, 1)  # these two anchors are the boxes
    assert int(grid.label(target_of(boxes), REGION)[3 * grid.columns + 7]) == NEGATIVE
    assert int(labels[3, 7]) == IGNORED
    assert (labels[:, 9] == IGNORED).all()  # outside the picture


class Recital(PlainRpnNetwork):
    """Probability one half everywhere, and the deltas that it was given, whatever it sees."""

    def __init__(self, deltas: Tensor) -> None:
        super().__init__()
        self.deltas = deltas

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(images), 1, *self.deltas.shape[-2:]), self.deltas.expand(len(images), -1, -1, -1)


def test_deltas_to_the_annotated_box_lose_nothing() -> None:
    target = target_of(torch.tensor([[40.6, 23.7, 79.4, 58.9]]))
    grid = AnchorGrid.from_params([(32, 32)], SMALL, PARAMS)
    deltas = encode(target.boxes.expand_as(grid.anchors), grid.anchors).reshape(1, grid.rows, grid.columns, 4)
    model = PlainRpn(Recital(deltas.permute(0, 3, 1, 2)), grid, PARAMS)
    assert (grid.label(target, REGION) >= 0).any()
    terms = model.losses(ImageList(torch.zeros(1, 3, 96, 160), torch.tensor([REGION])), [target])
    assert float(terms["rpn_regression"]) == pytest.approx(0, abs=1e-9)
    assert float(terms["objectness"]) == pytest.approx(math.log(2))

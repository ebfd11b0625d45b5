"""Part (a)'s anchor grid as the parameters ask for it, and its losses by the annotated boxes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from src.core.params import RpnLossWeights, RpnParams
from src.data.letterbox import Letterbox
from src.data.normalize import Normalization
from src.data.prepared import PreparedFile
from src.ops.anchors import cell_anchors, grid_anchors
from src.ops.boxes import encode
from src.ops.matching import MatchThresholds
from src.plain_rpn.anchor_grid import AnchorGrid, PartA
from src.plain_rpn.network import PlainRpnNetwork
from tests.factories import make_prepared

FRAME = Letterbox(800, 1066, 1088, 300, 400)
PARAMS = RpnParams(1, 1, 1e-3, 0.0, 0.7, 0.3, 64, flip=False, loss_weights=RpnLossWeights(1.0, 1.0), seed=1)


def test_the_grid_has_the_parameters_thresholds_and_the_picture_s_frame() -> None:
    grid = AnchorGrid.of(
        [(120, 100), (60, 70)], FRAME, dataclasses.replace(PARAMS, fg_iou_thresh=0.6, bg_iou_thresh=0.2)
    )
    assert grid.thresholds == MatchThresholds(high=0.6, low=0.2)
    assert (grid.rows, grid.columns, grid.content) == (50, 68, (11, 0, 1077, 800))
    assert torch.equal(grid.anchors, grid_anchors(cell_anchors([(120, 100), (60, 70)]), 50, 68, 16, offset=0.5))
    assert torch.equal(grid.at(49, 67), grid.anchors[-2:])


class Recital(PlainRpnNetwork):
    """Probability one half everywhere, and the deltas that it was given, whatever it sees."""

    def __init__(self, deltas: Tensor) -> None:
        super().__init__()
        self.deltas = deltas

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(images), 1, *self.deltas.shape[-2:]), self.deltas.expand(len(images), -1, -1, -1)


def test_deltas_to_the_annotated_box_lose_nothing(tmp_path: Path) -> None:
    with PreparedFile(make_prepared(tmp_path, 1)) as prepared:
        letterbox, scene = prepared.letterbox, prepared.example(0, masks=False)
    box = torch.tensor([[40.6, 23.7, 79.4, 58.9]])
    example = dataclasses.replace(scene, boxes=box, labels=torch.ones(1).long(), crowd=torch.zeros(1).bool())
    grid = AnchorGrid.of([(32, 32)], letterbox, PARAMS)
    deltas = encode(box.expand_as(grid.anchors), grid.anchors).reshape(1, grid.rows, grid.columns, 4)
    part = PartA(
        network=Recital(deltas.permute(0, 3, 1, 2)),
        fabric=Fabric(accelerator="cpu", devices=1, precision="32-true"),
        grid=grid,
        normalization=Normalization((0.5,) * 3, (0.5,) * 3),
    )
    assert (grid.label(example) >= 0).any()
    terms = part.losses([example], PARAMS.samples, torch.Generator().manual_seed(0))
    assert float(terms["regression"]) == pytest.approx(0, abs=1e-9)
    assert float(terms["objectness"]) == pytest.approx(math.log(2))

"""Best IoU of each box with a set of anchors."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_iou

from src.core.params import ProposalsParams
from src.detector.rpn import RegionProposalNetwork
from src.plain_rpn import best_anchor_iou
from src.plain_rpn.best_anchor_iou import best_ious, fpn_anchors, summarize


def random_boxes(count: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    corners = 100 * torch.rand(count, 2, generator=draw)
    return torch.cat([corners, corners + 1 + 50 * torch.rand(count, 2, generator=draw)], dim=1)


def test_the_best_of_all_anchors_however_the_work_is_cut(monkeypatch):
    boxes, anchors = random_boxes(17, 0), random_boxes(40, 1)
    expected = box_iou(boxes, anchors).amax(dim=1)
    torch.testing.assert_close(best_ious(boxes, anchors), expected)
    monkeypatch.setattr(best_anchor_iou, "CHUNK", 100)  # two boxes at a time
    torch.testing.assert_close(best_ious(boxes, anchors), expected)


def test_no_boxes_and_no_anchors():
    assert best_ious(torch.zeros(0, 4), random_boxes(3, 0)).shape == (0,)
    assert best_ious(random_boxes(3, 0), torch.zeros(0, 4)).tolist() == [0, 0, 0]
    assert summarize(torch.zeros(0)) == {"mean": None, "above_0.5": None, "above_0.7": None}


def test_shares_by_hand():
    assert summarize(torch.tensor([0.2, 0.6, 0.5, 0.9])) == pytest.approx(
        {"mean": 0.55, "above_0.5": 0.5, "above_0.7": 0.25}
    )


def test_the_pyramid_s_anchors_are_those_of_the_rpn():
    sizes, ratios = (32.0, 64.0, 128.0, 256.0, 512.0), (0.5, 1.0, 2.0)
    grids = [(200, 272), (100, 136), (50, 68), (25, 34), (13, 17)]
    anchors = fpn_anchors(sizes, ratios, 800, 1088)
    rpn = RegionProposalNetwork(sizes, ratios, ProposalsParams(1, 0.7, 1, 1.0))
    assert torch.equal(anchors, torch.cat(rpn.anchors((800, 1088), grids)))
    assert len(anchors) == 3 * sum(rows * columns for rows, columns in grids)

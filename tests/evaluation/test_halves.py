"""The halves and their summary by hand."""

import json

import pytest
import torch

from src.evaluation.halves import EDGES, SIDES, halves, summarize_halves
from src.evaluation.rpn_metrics import paired_iou


def test_halves_by_hand():
    parts = halves(torch.tensor([[10.0, 20, 30, 60], [0, 0, 2, 2]]))
    assert parts[:4].tolist() == [[10, 20, 20, 60], [20, 20, 30, 60], [10, 20, 30, 40], [10, 40, 30, 60]]
    assert parts[4].tolist() == [0, 0, 1, 2]
    assert SIDES == ("left", "right", "top", "bottom")


def test_a_half_has_an_iou_of_one_half():
    low = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 500
    boxes = torch.cat([low, low + 7 + low.flip(1) / 3], 1)
    before = paired_iou(halves(boxes), boxes.repeat_interleave(4, dim=0))
    torch.testing.assert_close(before, torch.full((200,), 0.5), atol=1e-5, rtol=0)
    summary = summarize_halves(before, before)
    assert summary.share_above_before == 0.0  # not what rounding makes of it
    assert summary.histogram_before[EDGES.index(0.5)] == 200


def test_summary_by_hand():
    before, after = torch.full((4,), 0.5), torch.tensor([0.52, 0.9, 0.3, 1.0])
    summary = summarize_halves(before, after)
    assert (summary.before, summary.share_above_before, summary.share_above_after) == (0.5, 0.0, 0.75)
    assert summary.after == pytest.approx(0.68)
    assert summary.after_by_side == pytest.approx({"left": 0.52, "right": 0.9, "top": 0.3, "bottom": 1.0})
    assert [i for i, count in enumerate(summary.histogram_after) if count] == [6, 10, 18, 19]
    assert (EDGES[0], EDGES[-1], len(summary.histogram_after)) == (0.0, 1.0, 20)


def test_no_boxes():
    assert halves(torch.zeros(0, 4)).shape == (0, 4)
    entry = summarize_halves(torch.zeros(0), torch.zeros(0)).as_metrics()
    assert entry["before"] is entry["after"] is entry["share_above_0.5_after"] is None
    assert sum(entry["histogram"]["after"]) == 0
    json.dumps(entry, allow_nan=False)


def test_lengths_must_agree():
    with pytest.raises((ValueError, TypeError)):  # TypeError from the shapes that only tests check
        summarize_halves(torch.zeros(4), torch.zeros(8))
    with pytest.raises(ValueError, match="four per box"):
        summarize_halves(torch.zeros(3), torch.zeros(3))

"""Proposals are best first: the best few are the first few, box and score together."""

from __future__ import annotations

import pytest
import torch

from src.structures.proposals import Proposals


def made() -> Proposals:
    return Proposals(torch.arange(20.0).reshape(5, 4), torch.tensor([0.9, 0.8, 0.5, 0.5, 0.1]))


@pytest.mark.parametrize(("count", "kept"), [(0, 0), (2, 2), (5, 5), (9, 5)])
def test_the_first_few_are_kept_with_their_scores(count: int, kept: int) -> None:
    top = made().top(count)
    assert torch.equal(top.boxes, made().boxes[:kept])
    assert torch.equal(top.scores, made().scores[:kept])


def test_none_have_no_first() -> None:
    top = Proposals(torch.zeros(0, 4), torch.zeros(0)).top(3)
    assert (len(top.boxes), len(top.scores)) == (0, 0)


def test_on_the_processor_they_are_the_same() -> None:
    proposals = made().cpu()
    assert torch.equal(proposals.boxes, made().boxes)
    assert torch.equal(proposals.scores, made().scores)
    assert proposals.boxes.device.type == proposals.scores.device.type == "cpu"

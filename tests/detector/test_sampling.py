"""Which anchors and RoIs learn what."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from src.detector.sampling import RoiRules, Truth, draw_rois, jitter, match_rois, sample_anchors, sample_rois
from src.ops.boxes import box_area, box_iou
from src.ops.matching import IGNORED, NEGATIVE, MatchThresholds

THRESHOLDS = MatchThresholds(0.7, 0.3)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def truth(boxes: list[list[float]] | None = None, crowd: list[list[float]] | None = None) -> Truth:
    rows = torch.tensor(boxes or [], dtype=torch.float32).reshape(-1, 4)
    labels = torch.arange(len(rows)) % 3 + 1
    return Truth(rows, labels, torch.tensor(crowd or [], dtype=torch.float32).reshape(-1, 4))


def random_boxes(count: int, seed: int) -> Tensor:
    low = 100 * torch.rand(count, 2, generator=draw(seed))
    return torch.cat([low, low + 5 + 60 * torch.rand(count, 2, generator=draw(seed + 1))], dim=1)


@given(count=st.integers(0, 60), objects=st.integers(0, 4), wanted=st.integers(2, 40), seed=st.integers(0, 1000))
def test_sampled_anchors_are_what_they_claim(count: int, objects: int, wanted: int, seed: int) -> None:
    anchors = random_boxes(count, seed)
    known = truth(random_boxes(objects, seed + 7).tolist())
    found = sample_anchors(anchors, known, THRESHOLDS, wanted, draw(seed))
    positive, negative = found.indices[: found.positives], found.indices[found.positives :]
    assert len(found.indices) <= wanted
    assert found.positives <= wanted // 2
    assert len(found.indices.unique()) == len(found.indices)
    overlaps = box_iou(known.boxes, anchors)
    best_of_box = overlaps.amax(dim=1) if count else torch.zeros(objects)
    for anchor, index in zip(positive.tolist(), found.truth.tolist(), strict=True):
        assert overlaps[index, anchor] == overlaps[:, anchor].max()
        forced = ((overlaps[:, anchor] == best_of_box) & (best_of_box > 0)).any()
        assert overlaps[index, anchor] >= 0.7 or forced
    if objects:
        assert (overlaps[:, negative] < 0.3).all()
    else:
        assert found.positives == 0


def test_anchors_across_the_border_take_part() -> None:
    """Unlike in part (a): over the FPN the largest anchors nearly all cross it."""
    anchors = torch.tensor([[-10.0, -10, 30, 30], [200, 200, 240, 240]])
    found = sample_anchors(anchors, truth([[-9, -9, 30, 30]]), THRESHOLDS, 4, draw())
    assert found.indices.tolist() == [0, 1]
    assert found.positives == 1


def test_anchors_in_a_crowd_are_neither() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60], [52, 50, 70, 60]])
    found = sample_anchors(anchors, truth([[0, 0, 10, 10]], [[45, 45, 61, 65]]), THRESHOLDS, 4, draw())
    assert sorted(found.indices.tolist()) == [0, 2]  # half of the third lies outside


def test_rois_match_by_iou_and_crowds_are_left_out() -> None:
    known = truth([[0, 0, 10, 10], [20, 0, 30, 10]], [[40, 0, 80, 40]])
    boxes = torch.tensor(
        [
            [0.0, 0, 10, 20],  # exactly one half of the first
            [0, 0, 10, 21],  # a little less
            [21, 0, 31, 10],
            [45, 5, 60, 20],  # in the crowd
            [75, 5, 95, 20],  # a quarter of it is
            [0, 60, 10, 70],
        ]
    )
    assert match_rois(boxes, known, 0.5).tolist() == [0, NEGATIVE, 1, IGNORED, NEGATIVE, NEGATIVE]


def test_an_object_in_front_of_a_crowd_stays_an_object() -> None:
    known = truth([[50, 10, 60, 20]], [[40, 0, 80, 40]])
    assert match_rois(torch.tensor([[50.0, 10, 60, 20]]), known, 0.5).tolist() == [0]


def test_without_objects_all_is_background() -> None:
    boxes = random_boxes(5, 0)
    assert match_rois(boxes, truth(), 0.5).tolist() == [NEGATIVE] * 5
    assert match_rois(boxes[:0], truth([[0, 0, 5, 5]]), 0.5).shape == (0,)
    found = sample_rois(boxes, truth(), RoiRules(3, 0.25, 0.5), draw())
    assert found.positives == 0
    assert len(found.indices) == 3


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [(100, 500, (32, 96)), (5, 500, (5, 123)), (100, 10, (32, 10)), (0, 500, (0, 128)), (3, 0, (3, 0))],
)
def test_three_negatives_to_one_positive(positives: int, negatives: int, expected: tuple[int, int]) -> None:
    matches = torch.cat([torch.full((positives,), 1), torch.full((negatives,), NEGATIVE), torch.full((50,), IGNORED)])
    matches = matches[torch.randperm(len(matches), generator=draw())]
    found = draw_rois(matches, RoiRules(128, 0.25, 0.5), draw())
    assert (found.positives, len(found.indices) - found.positives) == expected
    assert (matches[found.indices[: found.positives]] == 1).all()
    assert (matches[found.indices[found.positives :]] == NEGATIVE).all()
    assert found.truth.tolist() == [1] * expected[0]


def test_draws_depend_on_the_generator() -> None:
    matches = torch.full((300,), NEGATIVE)
    rules = RoiRules(20, 0.25, 0.5)
    first, again, other = (draw_rois(matches, rules, draw(seed)).indices.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_jitter_moves_and_resizes_in_proportion() -> None:
    boxes = torch.tensor([[100.0, 100, 110, 300]]).repeat(4000, 1)
    found = jitter(boxes, 0.1, draw())
    sizes = found[:, 2:] - found[:, :2]
    centers = (found[:, :2] + found[:, 2:]) / 2
    assert centers.mean(0).tolist() == pytest.approx([105, 200], abs=2)
    assert centers.std(0).tolist() == pytest.approx([1.0, 20.0], rel=0.05)  # a tenth of each side
    assert (sizes / torch.tensor([10.0, 200.0])).log().std(0).tolist() == pytest.approx([0.1, 0.1], rel=0.05)
    assert (box_area(found) > 0).all()
    assert torch.equal(found, jitter(boxes, 0.1, draw()))


def test_no_spread_changes_nothing() -> None:
    boxes = random_boxes(4, 3)
    torch.testing.assert_close(jitter(boxes, 0.0, draw()), boxes)
    assert jitter(boxes[:0], 0.5, draw()).shape == (0, 4)

"""Which anchors and RoIs learn what."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from src.core.params import RoisParams
from src.detector.box_head import decode_scaled
from src.detector.sampling import (
    COPIES,
    JITTERS,
    SMALLEST_ROI,
    AnchorRules,
    LossRules,
    RoiRules,
    jitter,
    roi_candidates,
    sample_anchors,
    sample_rois,
)
from src.ops.boxes import box_area, box_iou, encode
from src.ops.matching import IGNORED, NEGATIVE, MatchThresholds, match_rois
from src.structures.target import Target, no_target
from tests.detector.small import backbone_params, params

THRESHOLDS = MatchThresholds(0.7, 0.3)
ROI_RULES = RoiRules(128, 0.25, 0.5)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def target_of(boxes: list[list[float]] | None = None, crowd: list[list[float]] | None = None) -> Target:
    rows = torch.tensor(boxes or [], dtype=torch.float32).reshape(-1, 4)
    regions = torch.tensor(crowd or [], dtype=torch.float32).reshape(-1, 4)
    labels = torch.arange(len(rows)) % 3 + 1
    return dataclasses.replace(no_target(100, 100), boxes=rows, labels=labels, crowd=regions)


def random_boxes(count: int, seed: int) -> Tensor:
    low = 100 * torch.rand(count, 2, generator=draw(seed))
    return torch.cat([low, low + 5 + 60 * torch.rand(count, 2, generator=draw(seed + 1))], dim=1)


def slices_of(box: list[float], shares: tuple[float, ...]) -> Tensor:
    """Upper parts of a box: their IoUs with it are their shares."""
    x1, y1, x2, y2 = box
    return torch.tensor([[x1, y1, x2, y1 + share * (y2 - y1)] for share in shares])


@given(count=st.integers(0, 60), objects=st.integers(0, 4), wanted=st.integers(2, 40), seed=st.integers(0, 1000))
def test_sampled_anchors_are_what_they_claim(count: int, objects: int, wanted: int, seed: int) -> None:
    anchors = random_boxes(count, seed)
    target = target_of(random_boxes(objects, seed + 7).tolist())
    found = sample_anchors(anchors, target, AnchorRules(THRESHOLDS, wanted), draw(seed))
    positive, negative = found.indices[: found.positives], found.indices[found.positives :]
    assert len(found.indices) <= wanted
    assert found.positives <= wanted // 2
    assert len(found.indices.unique()) == len(found.indices)
    assert len(found.deltas) == found.positives
    overlaps = box_iou(target.boxes, anchors)
    best_of_box = overlaps.amax(dim=1) if count else torch.zeros(objects)
    for anchor, deltas in zip(positive.tolist(), found.deltas, strict=True):
        index = int(overlaps[:, anchor].argmax())  # of two boxes, the anchor learns the one it overlaps most
        assert torch.equal(deltas[None], encode(target.boxes[index : index + 1], anchors[anchor : anchor + 1]))
        forced = ((overlaps[:, anchor] == best_of_box) & (best_of_box > 0)).any()
        assert overlaps[index, anchor] >= 0.7 or forced
    if objects:
        assert (overlaps[:, negative] < 0.3).all()
    else:
        assert found.positives == 0


@pytest.mark.parametrize(("high", "low"), [(0.7, 0.3), (0.5, 0.1)])
def test_anchors_overlap_as_the_params_say(high: float, low: float) -> None:
    box = [20.0, 10, 60, 90]
    shares = (1.0, 0.72, 0.68, 0.52, 0.48, 0.32, 0.28, 0.05)  # IoUs with the object
    rules = AnchorRules.from_params(backbone_params(fg_iou_thresh=high, bg_iou_thresh=low, rpn_batch_size_per_image=40))
    drawn = sample_anchors(slices_of(box, shares), target_of([box]), rules, draw())
    expected = [i for i, share in enumerate(shares) if share > high], [i for i, s in enumerate(shares) if s < low]
    assert (drawn.indices[: drawn.positives].tolist(), drawn.indices[drawn.positives :].tolist()) == expected


@pytest.mark.parametrize("count", [2, 10, 40])
def test_as_many_anchors_as_the_params_say(count: int) -> None:
    rules = AnchorRules.from_params(backbone_params(rpn_batch_size_per_image=count))
    objects = random_boxes(30, 1)
    anchors = torch.cat([objects, objects + 300])
    drawn = sample_anchors(anchors, target_of(objects.tolist()), rules, draw())
    assert (len(drawn.indices), drawn.positives) == (count, count // 2)


def test_anchors_across_the_border_take_part() -> None:
    """Unlike in part (a): over the FPN the largest anchors nearly all cross it."""
    anchors = torch.tensor([[-10.0, -10, 30, 30], [200, 200, 240, 240]])
    found = sample_anchors(anchors, target_of([[-9, -9, 30, 30]]), AnchorRules(THRESHOLDS, 4), draw())
    assert found.indices.tolist() == [0, 1]
    assert found.positives == 1


def test_anchors_in_a_crowd_are_neither() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60], [52, 50, 70, 60]])
    target = target_of([[0, 0, 10, 10]], [[45, 45, 61, 65]])
    found = sample_anchors(anchors, target, AnchorRules(THRESHOLDS, 4), draw())
    assert sorted(found.indices.tolist()) == [0, 2]  # half of the third lies outside


def matches_of(rois: Tensor, target: Target) -> list[int]:
    return match_rois(rois, target.boxes, target.crowd, 0.5).tolist()


ROIS = [
    [0.0, 0, 10, 20],  # exactly one half of the first object
    [0, 0, 10, 21],  # a little less
    [21, 0, 31, 10],
    [45, 5, 60, 20],  # in the crowd
    [75, 5, 95, 20],  # a quarter of it is
    [0, 60, 10, 70],
]


def test_rois_match_by_iou_and_crowds_are_left_out() -> None:
    target = target_of([[0, 0, 10, 10], [20, 0, 30, 10]], [[40, 0, 80, 40]])
    assert matches_of(torch.tensor(ROIS), target) == [0, NEGATIVE, 1, IGNORED, NEGATIVE, NEGATIVE]
    found = sample_rois(torch.tensor(ROIS), target, ROI_RULES, draw())
    assert found.indices.tolist() == [0, 2, 1, 4, 5]
    assert found.labels.tolist() == [1, 2, 0, 0, 0]
    assert found.truth.tolist() == [0, 1]
    assert torch.equal(found.boxes, torch.tensor(ROIS)[found.indices])
    torch.testing.assert_close(decode_scaled(found.deltas, found.boxes[:2])[:, 0], target.boxes)


def test_an_object_in_front_of_a_crowd_stays_an_object() -> None:
    target = target_of([[50, 10, 60, 20]], [[40, 0, 80, 40]])
    assert matches_of(torch.tensor([[50.0, 10, 60, 20]]), target) == [0]
    assert sample_rois(torch.tensor([[50.0, 10, 60, 20]]), target, ROI_RULES, draw()).labels.tolist() == [1]


def test_without_objects_all_is_background() -> None:
    boxes = random_boxes(5, 0)
    assert matches_of(boxes, target_of()) == [NEGATIVE] * 5
    assert matches_of(boxes[:0], target_of([[0, 0, 5, 5]])) == []
    found = sample_rois(boxes, target_of(), RoiRules(3, 0.25, 0.5), draw())
    assert found.labels.tolist() == [0, 0, 0]
    assert found.truth.shape == (0,)
    assert found.deltas.shape == (0, 4)


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [(100, 500, (32, 96)), (5, 500, (5, 123)), (100, 10, (32, 10)), (0, 500, (0, 128)), (3, 0, (3, 0))],
)
def test_three_negatives_to_one_positive(positives: int, negatives: int, expected: tuple[int, int]) -> None:
    target = target_of([[0, 0, 10, 10], [20, 0, 30, 10]], [[40, 0, 80, 40]])
    kinds = [
        target.boxes[1:],
        torch.tensor([[0.0, 60, 10, 70]]),
        torch.tensor([[45.0, 5, 60, 20]]),
    ]  # object, none, crowd
    counts = torch.tensor([positives, negatives, 50])
    kind = torch.arange(3).repeat_interleave(counts)
    kind = kind[torch.randperm(len(kind), generator=draw())]
    found = sample_rois(torch.cat(kinds)[kind], target, RoiRules.from_params(RoisParams(0.5, 0.25), 128), draw())
    assert (len(found.truth), len(found.indices) - len(found.truth)) == expected
    assert len(found.indices.unique()) == len(found.indices)
    assert kind[found.indices].tolist() == [0] * expected[0] + [1] * expected[1]
    assert found.labels.tolist() == [2] * expected[0] + [0] * expected[1]
    assert found.truth.tolist() == [1] * expected[0]


@pytest.mark.parametrize(("iou", "labels"), [(0.5, [1, 0, 0]), (0.45, [1, 1, 0]), (0.6, [0, 0, 0])])
def test_rois_are_objects_from_the_params_iou_on(iou: float, labels: list[int]) -> None:
    box = [20.0, 10, 60, 90]
    candidates = slices_of(box, (0.52, 0.48, 0.42))
    found = sample_rois(candidates, target_of([box]), RoiRules.from_params(RoisParams(iou, 1.0), 16), draw())
    assert torch.equal(found.boxes, candidates)
    assert found.labels.tolist() == labels


def test_each_training_draws_what_its_section_says() -> None:
    backbone = backbone_params(fg_iou_thresh=0.6, bg_iou_thresh=0.2, rpn_batch_size_per_image=20)
    joint = dataclasses.replace(
        params().joint, box_batch_size_per_image=30, mask_batch_size_per_image=5, finest_level=2
    )
    settings = params(backbone=backbone, rois=RoisParams(0.4, 0.3), joint=joint)
    anchors = AnchorRules(MatchThresholds(0.6, 0.2), 20)
    assert LossRules.for_fine_tuning(settings) == LossRules(anchors, RoiRules(16, 0.3, 0.4), None, 4)
    assert LossRules.for_joint_training(settings) == LossRules(anchors, RoiRules(30, 0.3, 0.4), 5, 2)


def test_draws_depend_on_the_generator() -> None:
    boxes, rules = random_boxes(300, 0), RoiRules(20, 0.25, 0.5)
    first, again, other = (sample_rois(boxes, target_of(), rules, draw(seed)).indices.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_candidates_are_jittered_objects_and_proposals_inside_the_picture() -> None:
    target, region = target_of([[12.0, 8, 60, 70], [50, 40, 88, 78]]), torch.tensor([10.0, 5, 90, 80])
    proposals = torch.tensor([[0.0, 0, 30, 30], [40, 10, 47, 60], [82, 20, 110, 60], [83, 20, 110, 60]])
    found = roi_candidates(proposals, target, region, draw())
    assert (found[:, :2] >= region[:2]).all()
    assert (found[:, 2:] <= region[2:]).all()
    assert ((found[:, 2:] - found[:, :2]) >= SMALLEST_ROI).all()
    # The second proposal is too thin, and so is what the picture leaves of the fourth.
    assert found[-2:].tolist() == [[10, 5, 30, 30], [82, 20, 90, 60]]
    near = box_iou(target.boxes, found[:-2])
    assert len(found) - 2 <= len(JITTERS) * COPIES * len(target.boxes)
    assert (near.amax(1) > 0.8).all()  # good ones for each object
    assert (near.amax(0) < 0.5).any()  # and background


def test_candidates_repeat_with_the_generator() -> None:
    target, region = target_of([[12.0, 8, 60, 70]]), torch.tensor([10.0, 5, 90, 80])
    first, again, other = (roi_candidates(torch.zeros(0, 4), target, region, draw(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_jitter_moves_and_resizes_in_proportion() -> None:
    boxes = torch.tensor([[100.0, 100, 110, 300]]).repeat(4000, 1)
    found = jitter(boxes, [0.1], draw())
    sizes = found[:, 2:] - found[:, :2]
    centers = (found[:, :2] + found[:, 2:]) / 2
    assert centers.mean(0).tolist() == pytest.approx([105, 200], abs=2)
    assert centers.std(0).tolist() == pytest.approx([1.0, 20.0], rel=0.05)  # a tenth of each side
    assert (sizes / torch.tensor([10.0, 200.0])).log().std(0).tolist() == pytest.approx([0.1, 0.1], rel=0.05)
    assert (box_area(found) > 0).all()
    assert torch.equal(found, jitter(boxes, [0.1], draw()))


def test_all_spreads_at_once_are_those_one_by_one() -> None:
    boxes, together, alone = random_boxes(4, 5), draw(), draw()
    found = jitter(boxes, [0.05, 0.4], together)
    assert torch.equal(found, torch.cat([jitter(boxes, [spread], alone) for spread in (0.05, 0.4)]))


def test_no_spread_changes_nothing() -> None:
    boxes = random_boxes(4, 3)
    torch.testing.assert_close(jitter(boxes, [0.0], draw()), boxes)
    assert jitter(boxes[:0], [0.5], draw()).shape == (0, 4)

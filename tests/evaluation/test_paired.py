"""Paired intervals against the resampling of `bootstrap` draw by draw, and AP by size against COCO's evaluator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.evaluation.bootstrap import resampled_ap
from src.evaluation.class_matches import match_class, match_class_at
from src.evaluation.detection import SIZES, AveragePrecision, evaluate_detections
from src.evaluation.detector_comparison import best_operating, compare
from src.evaluation.instances import GroundTruth, Instances, coco_ground_truth, coco_results
from src.evaluation.paired import ALL, group_measures, groups, paired_intervals
from src.evaluation.rle import encode_masks
from src.sources.assignment import CLASSES
from tests.evaluation.plain_ap import plain_ap

SIDE = 200  # pixels of a picture, so that objects of every size fit


def picture(draw: np.random.Generator, number: int, objects: int, crowd: float = 0.2) -> GroundTruth:
    """Rectangles from 10 to 150 pixels a side; their masks are they themselves."""
    sides = draw.integers(10, 150, (objects, 2))
    corners = np.array([draw.integers(0, SIDE - pair + 1) for pair in sides]).reshape(-1, 2)
    boxes = np.concatenate([corners, corners + sides], axis=1)
    masks = np.zeros((objects, SIDE, SIDE), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    none = torch.zeros(0, 4)
    return GroundTruth(
        image_id=number + 1,
        name=f"{number}",
        height=SIDE,
        width=SIDE,
        boxes=torch.from_numpy(boxes).float().reshape(-1, 4),
        labels=torch.from_numpy(draw.integers(1, 4, objects)),
        masks=encode_masks(masks),
        crowd=torch.from_numpy(draw.random(objects) < crowd),
        unlabeled_boxes=none,
        unlabeled_labels=torch.zeros(0, dtype=torch.int64),
    )


def found_in(draw: np.random.Generator, truth: GroundTruth, spread: float) -> Instances:
    """Two detections near each object, some of another class, and three anywhere; no two scores are equal."""
    near = truth.boxes.repeat(2, 1) + torch.from_numpy(draw.normal(0, spread, (2 * len(truth.boxes), 4))).float()
    corners = torch.from_numpy(draw.uniform(0, 100, (3, 2))).float()
    far = torch.cat([corners, corners + torch.from_numpy(draw.uniform(5, 120, (3, 2))).float()], dim=1)
    boxes = torch.cat([near, far])
    boxes = torch.cat([boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)], dim=1)
    labels = torch.cat([truth.labels.repeat(2), torch.from_numpy(draw.integers(1, 4, 3))])
    labels = torch.where(torch.from_numpy(draw.random(len(labels)) < 0.15), 1 + labels % 3, labels)
    scores = torch.from_numpy(draw.permutation(np.linspace(0.05, 0.95, len(boxes))) + draw.random(len(boxes)) / 1000)
    return Instances(boxes, labels, scores.float())


def scene(seed: int, pictures: int = 6) -> tuple[list[GroundTruth], list[Instances], list[Instances]]:
    draw = np.random.default_rng(seed)
    truth = [picture(draw, number, int(draw.integers(0, 5))) for number in range(pictures)]
    first, second = ([found_in(draw, one, spread) for one in truth] for spread in (4.0, 12.0))
    return truth, first, second


def ap_of(one: AveragePrecision) -> tuple[float | None, ...]:
    return one.ap, one.ap50, one.ap75


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_ap_by_class_and_size_is_coco_s(seed: int) -> None:
    """With each picture once, `group_measures` is what COCO's evaluator says of the class or the size."""
    truth, found, _ = scene(seed, pictures=4)
    score = evaluate_detections(coco_ground_truth(truth, CLASSES), coco_results(truth, found))
    expected = {ALL: score.box, **{name: one.box for name, one in score.by_class.items()}, **score.box_by_size}
    once = np.ones((1, len(truth)), np.int64)
    assert [group.name for group in groups(CLASSES)] == list(expected)
    for group in groups(CLASSES):
        (values,) = group_measures(truth, found, group, once)
        wanted = [np.nan if value is None else value for value in ap_of(expected[group.name])]
        np.testing.assert_allclose(values, wanted, atol=1e-9, err_msg=group.name)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20), label=st.integers(1, 3), threshold=st.sampled_from([0.5, 0.75]))
def test_all_draws_at_once_are_those_one_by_one(seed: int, label: int, threshold: float) -> None:
    truth, found, _ = scene(seed)
    weights = np.random.default_rng(seed).integers(0, 3, (20, len(truth)))
    (one,) = match_class_at((threshold,), truth, found, label, "box")
    expected = [plain_ap([one], draw) for draw in weights]
    values = resampled_ap(one, weights)
    assert np.array_equal(values, [np.nan if value is None else value for value in expected], equal_nan=True)


def test_a_difference_is_that_of_the_two_and_its_interval_is_paired() -> None:
    truth, first, second = scene(3, pictures=12)
    intervals = paired_intervals(truth, first, second, CLASSES, torch.Generator().manual_seed(0), 100)
    scores = [
        evaluate_detections(coco_ground_truth(truth, CLASSES), coco_results(truth, one)).box for one in (first, second)
    ]
    everything = intervals[ALL]
    assert everything is not None
    for measure in ("ap", "ap50", "ap75"):
        one = everything[measure]
        assert one.estimate == pytest.approx(getattr(scores[0], measure) - getattr(scores[1], measure), abs=1e-9)
        assert one.low <= one.estimate <= one.high
    assert everything["ap"].low > 0  # boxes that are three times as far off are worse, whatever the draw
    same = paired_intervals(truth, first, first, CLASSES, torch.Generator().manual_seed(0), 50)
    assert all(one is None or (one["ap"].low, one["ap"].high) == (0, 0) for one in same.values())


def test_a_size_without_objects_has_no_difference() -> None:
    truth, first, second = scene(5)
    large = [one.boxes[:, 2:] - one.boxes[:, :2] for one in truth]
    assert all((sides >= 10).all() for sides in large)
    none = [one.__class__(**(vars(one) | {"crowd": torch.ones_like(one.crowd)})) for one in truth]
    intervals = paired_intervals(none, first, second, CLASSES, torch.Generator().manual_seed(0), 10)
    assert set(intervals) >= {ALL, *SIZES}
    assert all(one is None for one in intervals.values())


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_no_other_threshold_has_a_higher_f1(seed: int) -> None:
    truth, found, _ = scene(seed, pictures=3)
    best = best_operating(truth, found)

    def f1(threshold: float) -> float:
        kept = [one.keep(one.scores >= threshold) for one in found]
        matches = [match_class(truth, kept, label, "box") for label in (1, 2, 3)]
        right = sum(int(one.right.sum()) for one in matches)
        counted = sum(len(one.right) for one in matches)
        objects = sum(int(one.objects.sum()) for one in matches)
        return 2 * right / max(counted + objects, 1)

    if best.threshold is None:
        assert not any(f1(score) for one in found for score in one.scores.tolist())
        return
    assert f1(best.threshold) == pytest.approx(max(f1(score) for one in found for score in one.scores.tolist()))


def test_objects_are_told_apart_by_who_finds_them() -> None:
    truth, first, second = scene(7, pictures=12)
    score = evaluate_detections(coco_ground_truth(truth, CLASSES), coco_results(truth, first))
    nothing = [one.keep(torch.zeros(0, dtype=torch.int64)) for one in second]
    comparison = compare(truth, {"a": first, "b": nothing}, {"a": score, "b": score}, CLASSES)
    facts = comparison.as_metrics()
    objects = sum(int((~one.crowd).sum()) for one in truth)
    assert sum(facts["objects"].values()) == objects == facts["counts"][ALL]
    assert (
        sum(facts["counts"][name] for name in CLASSES.names) == sum(facts["counts"][name] for name in SIZES) == objects
    )
    assert facts["objects"]["both"] == facts["objects"]["b_only"] == 0
    assert facts["objects"]["a_only"] == round(facts["detectors"]["a"]["recall"] * objects) > 0
    assert facts["detectors"]["b"]["threshold"] is None
    assert comparison.only(1) == []
    counts = [int(comparison.found[number][0].sum()) for number in comparison.only(0)]
    assert counts == sorted(counts, reverse=True)
    assert all(counts)

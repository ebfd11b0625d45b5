"""Each kind of mistake by hand, and that kinds add up."""

import pytest

from src.evaluation.errors import ErrorCounts, count_errors
from tests.evaluation.scenes import found, random_scene, truth

THING = [0, 0, 20, 20]


@pytest.mark.parametrize(
    ("box", "label", "expected"),
    [
        (THING, 1, {"correct": 1}),
        ([0, 0, 20, 8], 1, {"localization": 1}),  # IoU 0.4 with its class
        (THING, 2, {"classification": 1}),
        ([0, 0, 20, 8], 2, {"both": 1, "missed": 1}),
        ([40, 20, 50, 30], 1, {"background": 1, "missed": 1}),
        ([0, 0, 10, 3], 1, {"background": 1, "missed": 1}),  # IoU 0.075
        ([0, 0, 20, 2], 1, {"localization": 1}),  # IoU 0.1
        ([0, 0, 20, 10], 1, {"correct": 1}),  # IoU 0.5
    ],
)
def test_one_detection_of_one_object(box, label, expected):
    assert count_errors([truth([THING], [1])], [found([box], [label], [0.9])], 0.5) == ErrorCounts(**expected)


def test_a_duplicate():
    two = found([THING, [0, 0, 20, 18]], [1, 1], [0.6, 0.9])
    assert count_errors([truth([THING], [1])], [two], 0.5) == ErrorCounts(correct=1, duplicate=1)


def test_a_missed_object_and_a_picture_without_detections():
    pictures = [truth([THING, [40, 0, 60, 20]], [1, 2]), truth([THING], [3], image_id=1)]
    assert count_errors(pictures, [found([THING], [1], [0.9]), found()], 0.5) == ErrorCounts(correct=1, missed=2)


def test_detections_below_the_threshold_do_not_count():
    two = found([THING, [40, 20, 50, 30]], [1, 1], [0.5, 0.4])
    assert count_errors([truth([THING], [1])], [two], 0.5) == ErrorCounts(correct=1)
    assert count_errors([truth([THING], [1])], [two], 0.45) == ErrorCounts(correct=1)
    assert count_errors([truth([THING], [1])], [two], 0.4) == ErrorCounts(correct=1, background=1)


def test_a_crowd_swallows_its_class_and_explains_no_mistake():
    crowd = truth([[0, 0, 40, 40]], [2], [True])
    inside = found([[5, 5, 15, 15], [5, 5, 15, 15]], [2, 1], [0.9, 0.9])
    assert count_errors([crowd], [inside], 0.5) == ErrorCounts(ignored=1, background=1)


@pytest.mark.parametrize("seed", range(6))
def test_every_detection_has_one_kind(seed):
    truths, finds = random_scene(seed)
    counts = count_errors(truths, finds, 0.3)
    detections = sum(int((one.scores >= 0.3).sum()) for one in finds)
    assert sum(counts.as_metrics().values()) - counts.missed == detections
    objects = sum(int((~one.crowd).sum()) for one in truths)
    assert counts.correct + counts.missed <= objects <= counts.correct + counts.missed + detections


def test_nothing():
    assert count_errors([], [], 0.5) == ErrorCounts()
    assert set(ErrorCounts().as_metrics().values()) == {0}

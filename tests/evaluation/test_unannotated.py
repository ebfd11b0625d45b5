"""Which detection task 17 shows, by hand."""

import json

import pytest

from src.evaluation.unannotated import find_unannotated, is_elsewhere
from src.sources.assignment import CLASSES
from tests.evaluation.scenes import found, truth

THING = [10, 10, 30, 30]
FAR = [40, 0, 55, 15]


@pytest.mark.parametrize(
    ("box", "label", "elsewhere"),
    [
        (FAR, 1, True),
        (THING, 1, False),
        (THING, 2, False),  # the class does not matter for an overlap
        ([10, 10, 15, 30], 1, False),  # IoU 0.25, but wholly inside
        ([25, 10, 45, 30], 1, True),  # IoU 1/7, a quarter inside
        ([0, 0, 60, 40], 1, False),  # IoU 1/6, but holds the object, of its own class
        ([0, 0, 60, 40], 2, True),  # the horse behind its rider
        ([18, 10, 38, 30], 2, False),  # IoU 3/7
        ([13, 10, 48, 30], 2, False),  # less than half inside, but IoU 340/760
    ],
)
def test_what_counts_as_elsewhere(box, label, elsewhere):
    assert is_elsewhere(truth([THING], [1]), found([box], [label], [0.9])).tolist() == [elsewhere]


def test_crowds_count_as_annotated():
    assert find_unannotated([truth([[0, 0, 60, 40]], [2], [True])], [found([FAR], [1], [0.9])], CLASSES) is None


def test_the_most_confident_one_is_taken():
    pictures = [truth([THING], [1], image_id=i) for i in range(3)]
    finds = [found([THING, FAR], [1, 3], [0.99, 0.6]), found([FAR], [2], [0.8]), found([FAR], [1], [0.8])]
    best = find_unannotated(pictures, finds, CLASSES)
    assert (best.picture, best.detection, best.label, best.known) == (1, 0, 2, False)
    assert best.iou_with_unlabeled is None
    assert best.as_metrics() == {
        "image": "test/000001",
        "class": "person",
        "probability": pytest.approx(0.8),
        "known": False,
        "iou_with_unlabeled": None,
    }


def test_an_unlabeled_object_goes_before_a_more_confident_stranger():
    pictures = [truth([THING], [1]), truth([THING], [1], unlabeled=[[40, 0, 55, 20]], image_id=1)]
    best = find_unannotated(pictures, [found([FAR], [1], [0.99]), found([FAR], [1], [0.5])], CLASSES)
    assert (best.picture, best.known, best.iou_with_unlabeled) == (1, True, pytest.approx(0.75))
    json.dumps(best.as_metrics(), allow_nan=False)


def test_an_unlabeled_object_that_is_hardly_touched_is_not_known():
    picture = truth([THING], [1], unlabeled=[[40, 0, 55, 30]])  # IoU 0.5: not above it
    best = find_unannotated([picture], [found([FAR], [1], [0.5])], CLASSES)
    assert (best.known, best.iou_with_unlabeled) == (False, pytest.approx(0.5))


def test_nothing_to_show():
    assert find_unannotated([], [], CLASSES) is None
    assert find_unannotated([truth([THING], [1])], [found()], CLASSES) is None
    assert find_unannotated([truth([THING], [1])], [found([THING], [1], [0.9])], CLASSES) is None
    assert find_unannotated([truth()], [found([THING], [1], [0.9])], CLASSES).detection == 0

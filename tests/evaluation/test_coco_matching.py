"""Greedy matching against pycocotools' evaluateImg and by hand."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from src.evaluation.coco_matching import UNMATCHED, greedy_match, pair_overlaps, same_class
from src.evaluation.instances import Instances, coco_ground_truth, coco_results
from src.sources.assignment import CLASSES
from tests.evaluation.scenes import found, random_scene, truth


def reference_matches(truths, finds, kind):
    """Ground truth id by (image, class, score, box) as pycocotools matches at IoU 0.5."""
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = coco_ground_truth(truths, CLASSES)
        known.createIndex()
        results = known.loadRes(coco_results(truths, finds))
        evaluator = COCOeval(known, results, kind)
        evaluator.evaluate()
    pairs = {}
    for entry in evaluator.evalImgs:
        if entry is not None and entry["aRng"] == evaluator.params.areaRng[0]:
            pairs |= dict(zip(entry["dtIds"], entry["dtMatches"][0].astype(int).tolist(), strict=True))
    return [pairs[number] for number in sorted(pairs)]


@pytest.mark.parametrize("kind", ["box", "mask"])
@pytest.mark.parametrize("seed", range(10))
def test_matches_are_those_of_pycocotools(seed, kind):
    truths, finds = random_scene(seed, ties=seed % 2 == 0)
    ours, offset = [], 1
    for one, detections in zip(truths, finds, strict=True):
        overlap = pair_overlaps(one, detections, kind) * same_class(one, detections)
        matches = greedy_match(overlap, detections.scores.numpy(), one.crowd.numpy())
        ours += [0 if match == UNMATCHED else offset + int(match) for match in matches]
        offset += len(one.boxes)
    expected = reference_matches(truths, finds, {"box": "bbox", "mask": "segm"}[kind])
    assert ours == expected
    assert any(ours)


def test_the_most_confident_takes_the_object():
    overlap = np.array([[0.6], [0.9]])
    assert greedy_match(overlap, np.array([0.8, 0.7]), np.array([False])).tolist() == [0, UNMATCHED]
    assert greedy_match(overlap, np.array([0.6, 0.7]), np.array([False])).tolist() == [UNMATCHED, 0]


def test_an_object_goes_before_a_crowd_and_a_crowd_is_never_used_up():
    overlap = np.array([[1.0, 0.6], [1.0, 0.6], [1.0, 0.1]])
    matches = greedy_match(overlap, np.array([0.9, 0.8, 0.7]), np.array([True, False]))
    assert matches.tolist() == [1, 0, 0]


def test_of_two_equally_close_objects_the_last_is_taken():
    overlap = np.array([[0.8, 0.8], [0.8, 0.0]])  # the first object is left for the second detection
    assert greedy_match(overlap, np.array([0.9, 0.7]), np.array([False, False])).tolist() == [1, 0]


def test_half_is_enough():
    assert greedy_match(np.array([[0.5]]), np.array([0.9]), np.array([False])).tolist() == [0]
    assert greedy_match(np.array([[0.499]]), np.array([0.9]), np.array([False])).tolist() == [UNMATCHED]


def test_nothing_to_match():
    assert greedy_match(np.zeros((0, 3)), np.zeros(0), np.zeros(3, bool)).tolist() == []
    assert greedy_match(np.zeros((2, 0)), np.array([0.5, 0.4]), np.zeros(0, bool)).tolist() == [UNMATCHED] * 2


def test_masks_that_are_missing_are_named():
    one = found([[0, 0, 5, 5]], [1], [0.5])
    with pytest.raises(ValueError, match="test/000000: expected detections with masks"):
        pair_overlaps(truth(), Instances(one.boxes, one.labels, one.scores), "mask")

"""The bootstrap's AP50 against the evaluator's own, on the split and on a resample of it."""

import dataclasses

import numpy as np
import pytest
import torch

from src.evaluation.bootstrap import SEED, ap50_intervals, bootstrap_ap50, mean_ap
from src.evaluation.class_matches import match_class
from src.evaluation.detection import evaluate_detections
from src.evaluation.instances import coco_ground_truth, coco_results
from src.evaluation.rle import encode_masks
from src.sources.assignment import CLASSES
from tests.evaluation.scenes import HEIGHT, WIDTH, found, random_scene, truth

EMPTY_MASK = encode_masks(np.zeros((1, HEIGHT, WIDTH), bool))[0]


def evaluator_ap50(truths, finds, kind):
    return getattr(evaluate_detections(coco_ground_truth(truths, CLASSES), coco_results(truths, finds)), kind).ap50


def classes_of(truths, finds, kind):
    return [match_class(truths, finds, label, kind) for label in (1, 2, 3)]


@pytest.mark.parametrize("kind", ["box", "mask"])
@pytest.mark.parametrize("seed", range(8))
def test_every_image_once_is_the_evaluators_ap50(seed, kind):
    truths, finds = random_scene(seed, ties=seed % 2 == 0)
    (once,) = mean_ap(classes_of(truths, finds, kind), np.ones((1, len(truths)), np.int64))
    assert once == pytest.approx(evaluator_ap50(truths, finds, kind), abs=1e-9)


@pytest.mark.parametrize("strangers", [99, 100])
def test_the_hundred_most_confident_of_a_class_and_picture_count(strangers):
    truths, wrong, right = [truth([[0, 0, 10, 10]], [1])], [[40, 20, 50, 30]], [[0, 0, 10, 10]]
    finds = [found(wrong * strangers + right, [1] * (strangers + 1), [0.9] * strangers + [0.5])]
    (once,) = mean_ap(classes_of(truths, finds, "box"), np.ones((1, 1), np.int64))
    assert once == pytest.approx(evaluator_ap50(truths, finds, "box"), abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_a_weight_is_a_copy_of_the_image(seed):
    truths, finds = random_scene(seed)
    draw = np.random.default_rng(seed).integers(0, len(truths), len(truths))
    copies = [dataclasses.replace(truths[i], image_id=place) for place, i in enumerate(draw)]
    weights = np.bincount(draw, minlength=len(truths))
    (weighted,) = mean_ap(classes_of(truths, finds, "box"), weights[None])
    assert weighted == pytest.approx(evaluator_ap50(copies, [finds[i] for i in draw], "box"), abs=1e-9)


def test_interval_holds_the_estimate_and_repeats():
    truths, finds = random_scene(1, images=20)
    intervals = [bootstrap_ap50(truths, finds, torch.Generator().manual_seed(4), 200) for _ in range(2)]
    assert intervals[0] == intervals[1]
    one = intervals[0]
    assert one.low < one.estimate < one.high
    assert one.estimate == pytest.approx(evaluator_ap50(truths, finds, "box"), abs=1e-9)
    assert one != bootstrap_ap50(truths, finds, torch.Generator().manual_seed(5), 200)


def test_reported_intervals_are_of_boxes_and_of_masks():
    truths, finds = random_scene(2, images=20)
    finds[::2] = [dataclasses.replace(one, masks=[EMPTY_MASK] * len(one)) for one in finds[::2]]
    reported = ap50_intervals(truths, finds)
    for kind in ("box", "mask"):
        alone = bootstrap_ap50(truths, finds, torch.Generator().manual_seed(SEED), kind=kind)
        assert reported[kind] == dataclasses.asdict(alone)
    assert reported["box"]["estimate"] > reported["mask"]["estimate"]
    assert ap50_intervals([], []) == {"box": None, "mask": None}


def test_a_perfect_detector_has_no_spread_and_an_empty_split_no_interval():
    thing = [[0, 0, 10, 10]]
    perfect = bootstrap_ap50([truth(thing, [1])] * 3, [found(thing, [1], [0.5])] * 3, torch.Generator(), 20)
    assert (perfect.low, perfect.estimate, perfect.high) == (1.0, 1.0, 1.0)
    assert bootstrap_ap50([truth()], [found(thing, [1], [0.5])], torch.Generator(), 20) is None
    assert bootstrap_ap50([], [], torch.Generator(), 20) is None
    blind = bootstrap_ap50([truth(thing, [1])], [found()], torch.Generator(), 20)
    assert (blind.low, blind.high) == (0.0, 0.0)

"""Two runs on the same images: paired intervals against a plain account, objects fixed and broken, shared images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from src.evaluation.bootstrap import bootstrap_ap50
from src.evaluation.detection import evaluate_detections
from src.evaluation.funnel import FOUND, STEPS
from src.evaluation.instances import GroundTruth, coco_ground_truth, coco_results, ground_truth_of
from src.evaluation.run_comparison import Run, changed_objects, compare, shared_images
from src.sources.assignment import CLASSES
from tests.evaluation.scenes import found, random_scene, truth


def random_runs(seed: int = 3, images: int = 10) -> tuple[Run, Run]:
    """The same images; the second run lacks some of the first one's detections."""
    truths, finds = random_scene(seed, images)
    draw = np.random.default_rng(seed)
    fewer = [one.keep(torch.from_numpy(draw.random(len(one)) < 0.7)) for one in finds]
    fates = [[draw.choice([FOUND, "box", "mask"]) for _ in range(int((~one.crowd).sum()))] for one in truths]
    others = [[draw.choice([FOUND, "box", "mask"]) for _ in picture] for picture in fates]
    return Run(truths, finds, fates), Run(truths, fewer, others)


def test_the_numbers_are_coco_s_and_their_differences() -> None:
    first, second = random_runs()
    reported = {one.name: one for one in compare(first, second, resamples=3)}
    assert list(reported) == ["box AP50", "box AP", "mask AP50", "mask AP", "objects found"]
    annotations = coco_ground_truth(first.truth, CLASSES)
    for run, side in ((first, "first"), (second, "second")):
        scores = evaluate_detections(annotations, coco_results(run.truth, run.found))
        for name, expected in (
            ("box AP50", scores.box.ap50), ("box AP", scores.box.ap),
            ("mask AP50", scores.mask.ap50), ("mask AP", scores.mask.ap),
        ):  # fmt: skip
            assert getattr(reported[name], side) == pytest.approx(expected, abs=1e-9), name
        share = np.mean([fate == FOUND for picture in run.fates for fate in picture])
        assert getattr(reported["objects found"], side) == pytest.approx(share)
    one = reported["box AP50"]
    assert one.difference == (one.second or 0) - (one.first or 0) != 0


def test_the_interval_is_of_differences_over_the_same_draws() -> None:
    """AP50 of each draw's images, one picture after another, computed anew from the pictures."""
    first, second = random_runs()
    images, resamples = len(first.truth), 25
    (reported, *_) = compare(first, second, resamples)
    generator = torch.Generator().manual_seed(0)
    differences = []
    for _ in range(resamples):
        draw = torch.randint(images, (images,), generator=generator).tolist()
        ap50 = []
        for run in (first, second):
            truths = [run.truth[place] for place in draw]
            one = bootstrap_ap50(truths, [run.found[place] for place in draw], torch.Generator(), resamples=1)
            ap50.append(one.estimate if one else None)
        if None not in ap50:
            differences.append(ap50[1] - ap50[0])
    low, high = np.quantile(differences, [0.025, 0.975])
    assert (reported.low, reported.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
    assert low < high


def test_a_run_beside_itself_differs_in_nothing_and_what_is_always_better_is_clear() -> None:
    first, _ = random_runs()
    for one in compare(first, first, 50):
        assert (one.difference, one.low, one.high, one.is_clear) == (0, 0, 0, False)
    lost = dataclasses.replace(first, fates=[["box"] * len(picture) for picture in first.fates])
    every = dataclasses.replace(first, fates=[[FOUND] * len(picture) for picture in first.fates])
    *_, worse = compare(every, lost, 50)
    assert (worse.difference, worse.high, worse.is_clear) == (-1, -1, True)


def test_no_objects_leave_everything_undefined() -> None:
    bare = Run([truth()], [found()], [[]])
    assert {(one.first, one.second, one.low, one.is_clear) for one in compare(bare, bare, 5)} == {
        (None,) * 3 + (False,)
    }
    with pytest.raises(ValueError, match="images"):
        compare(bare, Run([], [], []))


def test_objects_fixed_and_broken() -> None:
    pictures = [truth([[1, 1, 9, 9]] * 2, [1, 2]), truth([[1, 1, 9, 9]], [1])]
    first = Run(pictures, [found()] * 2, [[FOUND, "box"], ["mask"]])
    second = Run(pictures, [found()] * 2, [["score", FOUND], ["no_anchor"]])
    fixed, broken = changed_objects(first, second)
    assert [(one.image, one.object, one.before, one.after) for one in fixed] == [(0, 1, "box", FOUND)]
    assert [(one.image, one.object, one.before, one.after) for one in broken] == [(0, 0, FOUND, "score")]
    assert second.funnel.as_metrics()["lost_at"] == dict.fromkeys(STEPS, 0) | {"score": 1, "no_anchor": 1}


def test_images_are_the_same_where_name_and_objects_are() -> None:
    one, other = truth([[1, 1, 9, 9]], [1], image_id=1), truth([[2, 2, 9, 9]], [2], image_id=2)
    renumbered = dataclasses.replace(other, image_id=9)
    for moved in (
        dataclasses.replace(one, boxes=one.boxes + 1), dataclasses.replace(one, labels=one.labels + 1),
        dataclasses.replace(one, masks=other.masks), dataclasses.replace(one, name="x"),
        dataclasses.replace(one, crowd=~one.crowd),
    ):  # fmt: skip
        assert shared_images([one, other], [renumbered, moved]) == [(1, 0)]
    assert shared_images([one, other], [one, other]) == [(0, 0), (1, 1)]
    assert shared_images([], [one]) == []


def test_ground_truth_comes_back_from_its_json() -> None:
    truths, _ = random_scene(7, 8)
    again = ground_truth_of(coco_ground_truth(truths, CLASSES))
    for before, after in zip(truths, again, strict=True):
        for field in dataclasses.fields(GroundTruth):
            one, other = getattr(before, field.name), getattr(after, field.name)
            if field.name.startswith("unlabeled"):
                continue
            assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, field.name
    assert shared_images(truths, again) == [(place, place) for place in range(8)]

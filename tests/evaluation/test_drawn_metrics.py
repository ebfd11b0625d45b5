"""Metrics in draws of the images: as the stage measures them, and as it would measure each draw's own pictures."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from src.evaluation.drawn_metrics import drawn_ap, drawn_metrics, images_digest, weights_of
from src.evaluation.instances import coco_ground_truth, ground_truth_of
from src.evaluation.results import evaluate_detector
from src.sources.assignment import CLASSES
from tests.evaluation.scenes import random_scene, truth
from tests.evaluation.test_results import params, split
from tools.study.results import find


def measured(draw: list[int], border: str) -> dict[str, Any]:
    """metrics/evaluate.json of the pictures of a draw, each as often as it is in it."""
    truths, analyses = split()
    again = [dataclasses.replace(truths[place], image_id=number + 1) for number, place in enumerate(draw)]
    return evaluate_detector(again, [analyses[place] for place in draw], CLASSES, params(border)).as_metrics()


@pytest.mark.parametrize("border", ["remove", "clip"])
def test_each_draw_has_the_numbers_of_its_own_pictures(border: str, tmp_path: Any) -> None:
    truths, analyses = split()
    weights = weights_of(len(truths), resamples=6)
    drawn = drawn_metrics(truths, analyses, border, weights)
    assert set(drawn) == {
        *(f"{kind}_{name}" for kind in ("box", "mask") for name in ("ap", "ap50", "ap75")),
        *("mask_iou", "classifier.macro_recall", "regressor.iou_after"),
    }
    for row, counts in enumerate(weights):
        plain = measured(np.repeat(np.arange(len(truths)), counts).tolist(), border)
        for name, values in drawn.items():
            assert values[row] == pytest.approx(find(plain, name, tmp_path), abs=1e-7), (row, name)


def test_the_images_as_they_are_come_first_and_draws_repeat() -> None:
    weights = weights_of(7, resamples=4)
    assert weights[0].tolist() == [1] * 7
    assert weights.sum(axis=1).tolist() == [7] * 5
    assert (weights == weights_of(7, resamples=4)).all()


def test_a_draw_without_objects_is_no_number() -> None:
    truths, finds = random_scene(2)
    weights = np.array([[1] * len(truths), [0] * len(truths)])
    weights[1][[place for place, one in enumerate(truths) if not len(one.boxes)][:1]] = 1
    for values in drawn_ap(truths, finds, weights).values():
        assert np.isnan(values).tolist() == [False, True]


def test_nothing_at_all_gives_no_number_and_no_error() -> None:
    _, analyses = split(images=2)
    nothing = torch.zeros(0)
    bare = [
        dataclasses.replace(
            one,
            found={"clip": one.found["clip"].keep(torch.zeros(0, dtype=torch.int64))},
            proposals=one.proposals[:0],
            truth=one.truth[:0],
            predicted=one.predicted[:0],
            iou_before=nothing,
            iou_after=nothing,
        )
        for one in analyses
    ]
    drawn = drawn_metrics([truth(image_id=1), truth(image_id=2)], bare, "clip", weights_of(2, 3))
    assert all(np.isnan(values).all() for values in drawn.values())


def test_the_digest_tells_test_images_apart() -> None:
    truths, _ = random_scene(4)
    digest = images_digest(truths)
    assert digest == images_digest(ground_truth_of(coco_ground_truth(truths, CLASSES)))
    filled = next(place for place, one in enumerate(truths) if len(one.boxes))
    moved = dataclasses.replace(truths[filled], boxes=truths[filled].boxes + 0.25)
    others = (truths[1:], truths[::-1], [*truths[:filled], moved, *truths[filled + 1 :]])
    assert len({digest, *map(images_digest, others)}) == 4

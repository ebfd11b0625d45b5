"""What the explorer knows of a picture against what is measured, at any score threshold, and in odd pictures."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from src.evaluation.errors import count_errors
from src.evaluation.explorer import BEST_PROPOSALS, describe, describe_found, settings, surest_first
from src.evaluation.funnel import FOUND, fates
from src.evaluation.instances import GroundTruth, Instances
from src.evaluation.rle import decode_masks
from src.structures.classes import Classes
from tests.evaluation.scenes import HEIGHT, WIDTH, found, random_scene, truth
from tests.reporting.explorer_files import analysis, scene

THRESHOLDS = (0.0, 0.2, 0.5, 0.8, 1.0)


def described(picture: GroundTruth, ours: Instances, lost_at: tuple[str, ...] = ()) -> dict[str, Any]:
    """As it comes out of the file."""
    steps = lost_at or ("box",) * int((~picture.crowd).sum())
    return json.loads(json.dumps(describe(picture, analysis(picture.name, ours, steps), "clip"), allow_nan=False))


def errors_of(tree: dict[str, Any], threshold: float) -> dict[str, int]:
    """Counted as the page does."""
    shown = [one for one in tree["detections"] if one["score"] >= threshold]
    explaining = settings(Classes(("thing",)), 0.5)["explaining"]
    explained = {one["about"] for one in shown if one["kind"] in explaining}
    objects = [place for place, one in enumerate(tree["objects"]) if not {"crowd", "unlabeled"} & set(one)]
    return Counter(one["kind"] for one in shown) + Counter(missed=len(set(objects) - explained))


def fates_of(tree: dict[str, Any], threshold: float) -> list[str]:
    objects = [one for one in tree["objects"] if not {"crowd", "unlabeled"} & set(one)]
    taken = [
        one["taken_by"] is not None and tree["detections"][one["taken_by"]]["score"] >= threshold for one in objects
    ]
    return [one["taken"] if is_taken else one["lost"] for one, is_taken in zip(objects, taken, strict=True)]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_what_is_counted_from_it_is_what_is_measured(seed: int, ties: bool) -> None:
    pictures, finds = random_scene(seed, images=8, ties=ties)
    draw = np.random.default_rng(seed)
    for picture, ours in zip(pictures, finds, strict=True):
        steps = tuple(draw.choice(["suppressed", "box", "score"], int((~picture.crowd).sum())).tolist())
        tree = described(picture, ours, steps)
        for threshold in THRESHOLDS:
            expected = count_errors([picture], [ours], threshold).as_metrics()
            assert errors_of(tree, threshold) == +Counter(expected)
            assert fates_of(tree, threshold) == fates(picture, ours, steps, threshold)


def test_all_of_a_picture_is_there() -> None:
    boxes = [(5, 5, 25, 25), (30, 10, 45, 30)]
    picture = truth(boxes, [1, 2], [False, True], unlabeled=[(1, 1, 4, 4)])
    ours = found([(6.04, 5, 25, 25), (31, 11, 44, 29)], [1, 2], [0.3, 0.9], proposals=[(4, 6, 20, 30), (30, 9, 40, 28)])
    tree = described(picture, ours, ("suppressed",))
    assert (tree["name"], tree["height"], tree["width"]) == ("test/000000", HEIGHT, WIDTH)
    thing, crowd, unlabeled = tree["objects"]
    assert (thing["box"], thing["label"], thing["sizes"]) == ([5, 5, 25, 25], 1, ["small"])
    assert (thing["taken_by"], thing["taken"], thing["lost"]) == (1, FOUND, "score")
    assert crowd["crowd"]
    assert "lost" not in crowd
    assert unlabeled == {"label": 1, "box": [1, 1, 4, 4], "unlabeled": True}
    sure, unsure = tree["detections"]
    assert (sure["score"], sure["kind"], sure["about"], sure["overlap"]) == (0.9, "ignored", 1, 1.0)
    assert (unsure["score"], unsure["kind"], unsure["about"]) == (0.3, "correct", 0)
    assert (unsure["box"], unsure["before"]) == ([6, 5, 25, 25], [4, 6, 20, 30])
    assert len(tree["proposals"]) == BEST_PROPOSALS
    assert all(isinstance(value, int) for box in tree["proposals"] for value in box)


def test_masks_are_the_same_pixels() -> None:
    pictures, finds = random_scene(3)
    for picture, ours in zip(pictures, finds, strict=True):
        tree = described(picture, ours)
        for entries, codes in ((tree["objects"], picture.masks), (tree["detections"], surest_first(ours).masks or [])):
            counts = [{"size": [HEIGHT, WIDTH], "counts": one["mask"]} for one in entries]
            assert np.array_equal(decode_masks(counts, HEIGHT, WIDTH), decode_masks(codes, HEIGHT, WIDTH))


@pytest.mark.parametrize("picture", [truth(), truth([(5, 5, 25, 25)], [1])], ids=["empty", "with an object"])
def test_nothing_is_found(picture: GroundTruth) -> None:
    tree = described(picture, found())
    assert tree["detections"] == []
    assert fates_of(tree, 0.0) == ["box"] * len(picture.boxes)


def test_detections_without_masks_or_proposals_are_as_large_as_their_boxes() -> None:
    bare = Instances(torch.tensor([[0.0, 0, 32, 32], [0, 0, 100, 100]]), torch.tensor([1, 7]), torch.tensor([0.5, 0.1]))
    first, second = describe_found(bare)
    assert (first["sizes"], second["sizes"]) == (["small", "medium"], ["large"])  # COCO has the edge in both
    assert not {"mask", "before"} & set(first)


def test_scores_keep_every_bit_and_fall() -> None:
    scores = torch.rand(200, generator=torch.Generator().manual_seed(0)).tolist()
    ours = surest_first(found([(1, 1, 5, 5)] * 200, [1] * 200, scores))
    told = json.loads(json.dumps([one["score"] for one in describe_found(ours)]))
    assert torch.equal(torch.tensor(told, dtype=torch.float32), torch.tensor(scores).sort(descending=True).values)


def test_a_run_of_random_images_has_each_kind_of_fate() -> None:
    """What the tests in the browser rest on."""
    pictures, analyses = scene(seed=5, images=9)
    trees = [describe(*pair, "clip") for pair in zip(pictures, analyses, strict=True)]
    told = Counter(fate for tree in trees for fate in fates_of(tree, 0.5))
    kinds = Counter(one["kind"] for tree in trees for one in tree["detections"])
    assert {FOUND, "mask"} < set(told)
    assert {"correct", "localization", "classification", "background", "ignored"} <= set(kinds)

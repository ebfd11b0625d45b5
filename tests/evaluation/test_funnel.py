"""Lost objects: each step by a case made for it, and random scenes against a plain account that is slow to read out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from src.detector.postprocess import Candidates, postprocess
from src.evaluation.funnel import FOUND, STEPS, count_fates, fates
from src.evaluation.instances import GroundTruth, Instances
from src.evaluation.last_steps import last_steps
from src.evaluation.rle import decode_masks
from tests.detector.small import evaluate_params
from tests.evaluation.scenes import HEIGHT, WIDTH, Box, as_boxes, box_masks, found, random_scene, truth

REGION = torch.tensor([0.0, 0, WIDTH, HEIGHT])
OBJECT = (10, 10, 30, 30)
NEAR, FAR, HALF = (11, 10, 31, 30), (40, 2, 55, 12), (10, 10, 20, 30)
THRESHOLD = 0.5  # of what is drawn


def candidates(proposals: Sequence[Box], scores: Sequence[Sequence[float]], boxes: Sequence[Box]) -> Candidates:
    """Proposals whose classes have these probabilities, background first, and one box each whatever the class."""
    logits = torch.tensor(scores, dtype=torch.float32).reshape(-1, 4).log()
    probabilities = logits.softmax(1)[:, 1:]
    repeated = as_boxes(boxes)[:, None].expand(-1, 3, 4)
    return Candidates(as_boxes(proposals), logits, torch.zeros(len(logits), 16), probabilities, repeated)


def what_becomes(
    one: Candidates,
    *,
    border: str = "remove",
    least: float = 0.05,
    anchors: Sequence[Box] = (NEAR,),
    masks: bool = True,
    thing: Box = OBJECT,
) -> list[str]:
    """Of the one object, a vehicle, after `postprocess`; with `masks` off each detection's mask is a thin line."""
    params = evaluate_params(border=border, score_threshold=least)
    detections = postprocess(one, REGION, params)
    lines = [[x1, y1, x2, y1 + 1] for x1, y1, x2, _ in detections.boxes.tolist()]
    instances = found(
        detections.boxes.tolist(),
        detections.labels.tolist(),
        detections.scores.tolist(),
        masks=None if masks else box_masks(lines),
    )
    steps = last_steps(as_boxes([thing]), torch.tensor([1]), as_boxes(anchors), one, REGION, params)
    return fates(truth([thing], [1]), instances, steps, THRESHOLD)


SURE, UNSURE = [0.1, 0.8, 0.05, 0.05], [0.3, 0.4, 0.2, 0.1]
BACKGROUND, PERSON = [0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.6, 0.1]
CASES = {
    FOUND: {"one": candidates([NEAR], [SURE], [OBJECT])},
    "no_anchor": {"one": candidates([FAR, (*HALF[:2], 19, 30)], [SURE] * 2, [FAR] * 2), "anchors": [FAR]},
    "no_proposal": {"one": candidates([FAR], [SURE], [FAR])},
    "background": {"one": candidates([NEAR, FAR], [BACKGROUND, SURE], [OBJECT, FAR])},
    "other_class": {"one": candidates([NEAR, NEAR], [BACKGROUND, PERSON], [OBJECT, OBJECT])},
    "box": {"one": candidates([NEAR], [SURE], [FAR])},
    "score": {"one": candidates([NEAR], [UNSURE], [OBJECT])},
    "mask": {"one": candidates([NEAR], [SURE], [OBJECT]), "masks": False},
}


@pytest.mark.parametrize("fate", CASES)
def test_each_step_is_reached(fate: str) -> None:
    assert what_becomes(**CASES[fate]) == [fate]  # type: ignore[arg-type]


@pytest.mark.parametrize(("rule", "fate"), [("remove", "border"), ("clip", FOUND)])
def test_a_box_across_the_border_is_removed_or_clipped(rule: str, fate: str) -> None:
    edge = (0, 10, 20, 30)
    assert what_becomes(candidates([edge], [SURE], [(-0.5, 10, 20, 30)]), border=rule, thing=edge) == [fate]


def test_an_object_is_suppressed_for_its_neighbor() -> None:
    """Two objects that overlap much: the box of the second is suppressed for the first's."""
    objects = [(10, 10, 30, 30), (14, 10, 34, 30)]
    one = candidates(objects, [SURE, [0.2, 0.7, 0.05, 0.05]], objects)
    params = evaluate_params(nms_iou=0.5)
    kept = postprocess(one, REGION, params)
    assert len(kept) == 1
    instances = found(kept.boxes.tolist(), kept.labels.tolist(), kept.scores.tolist())
    steps = last_steps(as_boxes(objects), torch.tensor([1, 1]), as_boxes(objects), one, REGION, params)
    assert steps == ["suppressed", "suppressed"]
    assert fates(truth(objects, [1, 1]), instances, steps, THRESHOLD) == [FOUND, "suppressed"]


def test_a_score_that_no_detection_may_have_loses_the_object_too() -> None:
    assert what_becomes(candidates([NEAR], [UNSURE], [OBJECT]), least=0.45) == ["score"]


def test_crowd_regions_are_no_objects() -> None:
    picture = truth([OBJECT, FAR], [1, 1], crowd=[True, False])
    assert fates(picture, found(), ("no_anchor",), THRESHOLD) == ["no_anchor"]
    with pytest.raises(ValueError, match="zip"):
        fates(picture, found(), ("box", "box"), THRESHOLD)


def test_nothing_proposed_and_nothing_there() -> None:
    nothing = candidates([], [], [])
    params = evaluate_params()
    steps = last_steps(as_boxes([OBJECT, FAR]), torch.tensor([1, 2]), as_boxes([NEAR]), nothing, REGION, params)
    assert steps == ["no_proposal", "no_anchor"]
    assert last_steps(as_boxes([]), torch.zeros(0, dtype=torch.int64), as_boxes([]), nothing, REGION, params) == []
    assert fates(truth(), found(), [], THRESHOLD) == []
    empty = count_fates([[], []])
    assert empty.as_metrics() == {"objects": 0, "found": 0, "missed": 0, "lost_at": dict.fromkeys(STEPS, 0)}


def test_the_rows_are_what_is_left() -> None:
    funnel = count_fates([["box", FOUND], ["mask", "no_anchor", FOUND, FOUND]])
    assert [row["left"] for row in funnel.rows()] == [5, 5, 5, 5, 4, 4, 4, 4, 3]
    assert [row["lost"] for row in funnel.rows()] == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert funnel.as_metrics()["missed"] == 3
    assert funnel.rows()[-1]["left"] == funnel.found == 3


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Of two boxes, in plain numbers."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)]
    return width * height / (sum(areas) - width * height) if sum(areas) else 0.0


def plain_step(box: list[float], label: int, anchors: list[list[float]], one: Candidates, border: str) -> str:
    """The account in loops: the candidates that are left after each step."""
    left = [row for row in range(len(one.proposals)) if iou(one.proposals[row].tolist(), box) >= 0.5]
    if not left:
        return "no_proposal" if any(iou(anchor, box) >= 0.5 for anchor in anchors) else "no_anchor"
    said = {row: max(range(4), key=lambda k: float(one.logits[row, k])) for row in left}
    if all(said[row] != label for row in left):
        return "background" if all(said[row] == 0 for row in left) else "other_class"
    left = [row for row in left if said[row] == label]
    boxes = {row: one.boxes[row, label - 1].tolist() for row in left}
    if border == "clip":
        sides = (WIDTH, HEIGHT, WIDTH, HEIGHT)
        boxes = {row: [min(max(v, 0), side) for v, side in zip(b, sides, strict=True)] for row, b in boxes.items()}
    left = [row for row in left if iou(boxes[row], box) >= 0.5]
    if not left:
        return "box"
    inside = [r for r in left if min(boxes[r][:2]) >= 0 and boxes[r][2] <= WIDTH and boxes[r][3] <= HEIGHT]
    if not inside:
        return "border"
    return "suppressed" if any(float(one.scores[row, label - 1]) > 0.2 for row in inside) else "score"


def plain_fate(index: int, picture: GroundTruth, instances: Instances, step: str) -> str:
    """Greedy matching of the picture's detections in loops; quarter pixels, so no IoU is on the edge by rounding."""
    taker: dict[int, int] = {}
    order = sorted(range(len(instances)), key=lambda row: -float(instances.scores[row]))
    for row in order:
        best, target = 0.5, None
        for place in range(len(picture.boxes)):
            if picture.crowd[place] or place in taker or picture.labels[place] != instances.labels[row]:
                continue
            overlap = iou(instances.boxes[row].tolist(), picture.boxes[place].tolist())
            if overlap >= best:
                best, target = overlap, place
        if target is not None:
            taker[target] = row
    row_of = taker.get(index)
    if row_of is None or instances.scores[row_of] < THRESHOLD:
        return "score" if row_of is not None and step == "suppressed" else step
    first, second = (decode(picture, codes) for codes in ([picture.masks[index]], [(instances.masks or [])[row_of]]))
    return FOUND if (first & second).sum() / max((first | second).sum(), 1) >= 0.5 else "mask"


def decode(picture: GroundTruth, codes: list[dict[str, object]]) -> np.ndarray:
    return decode_masks(codes, picture.height, picture.width)[0]


def random_candidates(draw: np.random.Generator, objects: Tensor) -> Candidates:
    """Proposals and boxes around the objects and across the border, all kinds of probabilities."""
    count = int(draw.integers(0, 12))
    picks = draw.integers(0, len(objects), count)
    near = objects[torch.from_numpy(picks)]
    proposals = near + torch.from_numpy(draw.integers(-20, 21, (count, 4)) / 4).float()
    boxes = near[:, None] + torch.from_numpy(draw.integers(-16, 17, (count, 3, 4)) / 4).float()
    logits = torch.from_numpy(draw.normal(0, 2, (count, 4))).float()
    return Candidates(proposals, logits, torch.zeros(count, 16), logits.softmax(1)[:, 1:], boxes)


@pytest.mark.parametrize("border", ["remove", "clip"])
def test_random_scenes_as_the_plain_account_has_them(border: str) -> None:
    counted: dict[str, int] = {}
    for seed in range(60):
        draw = np.random.default_rng(seed)
        for picture, instances in zip(*random_scene(seed, images=4), strict=True):
            objects, labels = picture.boxes[~picture.crowd], picture.labels[~picture.crowd]
            if not len(objects):
                continue
            one = random_candidates(draw, objects)
            anchors = objects[:1] + 3
            params = evaluate_params(border=border, score_threshold=0.2)
            steps = last_steps(objects, labels, anchors, one, REGION, params)
            expected = [
                plain_step(box, label, anchors.tolist(), one, border)
                for box, label in zip(objects.tolist(), labels.tolist(), strict=True)
            ]
            assert steps == expected
            became = fates(picture, instances, steps, THRESHOLD)
            places = (~picture.crowd).nonzero().flatten().tolist()
            assert became == [
                plain_fate(place, picture, instances, step) for place, step in zip(places, steps, strict=True)
            ]
            for fate in became:
                counted[fate] = counted.get(fate, 0) + 1
    assert {*STEPS, FOUND} - set(counted) <= ({"border"} if border == "clip" else set())
    funnel = count_fates([[fate] * number for fate, number in counted.items()]).as_metrics()
    assert sum(funnel["lost_at"].values()) == funnel["missed"] == funnel["objects"] - funnel["found"]


def test_an_object_alone_is_never_counted_as_suppressed() -> None:
    """Alone in its picture, with a candidate to the end, an object is found after `postprocess` or scored too low."""
    seen = set()
    for seed in range(200):
        draw = np.random.default_rng(seed)
        one = random_candidates(draw, as_boxes([OBJECT]))
        params = evaluate_params(border="remove", nms_iou=0.99)
        kept = postprocess(one, REGION, params)
        instances = found(kept.boxes.tolist(), kept.labels.tolist(), kept.scores.tolist())
        steps = last_steps(as_boxes([OBJECT]), torch.tensor([1]), as_boxes([NEAR]), one, REGION, params)
        (fate,) = fates(truth([OBJECT], [1]), dataclasses.replace(instances, masks=None), steps, THRESHOLD)
        seen.add(fate)
        assert fate != "suppressed"
    assert {FOUND, "score", "other_class", "background"} <= seen

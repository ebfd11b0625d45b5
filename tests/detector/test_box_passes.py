"""The box head's further looks at its own boxes, and the RPN's objectness in the scores, against plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from src.detector.box_head import SIZE, BoxHead
from src.detector.fpn import STRIDES
from src.detector.mask_head import MaskHead
from src.detector.postprocess import Candidates, postprocess
from src.detector.roi_heads import RoiHeads
from src.ops.roi_align import multiscale_roi_align
from src.sources.assignment import CLASSES
from src.structures.proposals import Proposals
from tests.detector.small import CANVAS, evaluate_params, randomize

CHANNELS = 4
REGIONS = torch.tensor([[10.0, 0, 118, 96], [0, 8, 128, 88]])
SCALES = (10.0, 10.0, 5.0, 5.0)  # by which the head's deltas are larger than those of the boxes

Box = list[float]


@pytest.fixture(scope="module")
def heads() -> RoiHeads:
    """Heads that prefer different classes in different boxes, and move boxes by some of their own size."""
    box_head = BoxHead(CLASSES.count, channels=CHANNELS, representation_size=16)
    net = RoiHeads(box_head, MaskHead(CLASSES.count, in_channels=CHANNELS, channels=4)).eval()
    randomize(net.parameters(), 2, 0.25)
    return net.requires_grad_(False)


@pytest.fixture(scope="module")
def features() -> list[Tensor]:
    """P2 to P5 and pool of two images."""
    draw = torch.Generator().manual_seed(3)
    height, width = CANVAS
    return [torch.randn(2, CHANNELS, height // stride, width // stride, generator=draw) for stride in (*STRIDES, 32)]


@pytest.fixture(scope="module")
def proposals() -> list[Proposals]:
    return [proposed(20, 1, REGIONS[0]), proposed(16, 2, REGIONS[1])]


def proposed(count: int, seed: int, region: Tensor) -> Proposals:
    """Boxes up to the picture's border, and objectness from 1 down to 0."""
    draw = torch.Generator().manual_seed(seed)
    low = region[:2] + torch.rand(count, 2, generator=draw) * (region[2:] - region[:2] - 8)
    high = torch.minimum(low + 8 + torch.rand(count, 2, generator=draw) * 32, region[2:])
    return Proposals(torch.cat([low, high], 1), torch.linspace(1, 0, count))


def nothing() -> Proposals:
    return Proposals(torch.zeros(0, 4), torch.zeros(0))


def plain_look(heads: RoiHeads, levels: Sequence[Tensor], box: Box) -> tuple[list[float], list[Box]]:
    """Probability and box of every class, background too, that the head sees in one box of one image."""
    pooled = multiscale_roi_align(levels, torch.tensor([[0.0, *box]]), SIZE, STRIDES)
    logits, deltas = (outputs[0].tolist() for outputs in heads.box_head(pooled))
    (x1, y1, x2, y2), boxes = box, []
    for label in range(CLASSES.count):
        dx, dy, dw, dh = (deltas[4 * label + side] / SCALES[side] for side in range(4))
        x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
        width, height = (x2 - x1) * math.exp(dw), (y2 - y1) * math.exp(dh)
        boxes.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    total = sum(map(math.exp, logits))
    return [math.exp(logit) / total for logit in logits], boxes


def plain_refine(
    heads: RoiHeads, levels: Sequence[Tensor], box: Box, region: Box, looks: int
) -> tuple[list[float], list[Box], list[Box]]:
    """Mean probabilities over the looks, the boxes of the last one, and where each look was before it was clipped."""
    left, top, right, bottom = region
    sums, places = [0.0] * CLASSES.count, [box]
    for number in range(looks):
        x1, y1, x2, y2 = places[-1]
        clipped = [min(max(x1, left), right), min(max(y1, top), bottom), min(max(x2, left), right)]
        probabilities, boxes = plain_look(heads, levels, [*clipped, min(max(y2, top), bottom)])
        sums = [total + one for total, one in zip(sums, probabilities, strict=True)]
        if number < looks - 1:
            places.append(boxes[max(range(1, CLASSES.count), key=probabilities.__getitem__)])
    return [total / looks for total in sums[1:]], boxes[1:], places


def of_image(features: Sequence[Tensor], image: int) -> list[Tensor]:
    """The levels that RoIs are pooled from, of one image."""
    return [level[image : image + 1] for level in features[: len(STRIDES)]]


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_it_is_the_plain_loops(heads: RoiHeads, features: list[Tensor], proposals: list[Proposals], looks: int) -> None:
    found = heads.refine(features, proposals, REGIONS, evaluate_params(box_passes=looks))
    assert len(found) == 2
    across = 0
    for image, (candidates, given) in enumerate(zip(found, proposals, strict=True)):
        levels, region = of_image(features, image), REGIONS[image].tolist()
        rows = [plain_refine(heads, levels, box, region, looks) for box in given.boxes.tolist()]
        torch.testing.assert_close(candidates.scores, torch.tensor([row[0] for row in rows]), rtol=0, atol=1e-5)
        torch.testing.assert_close(candidates.boxes, torch.tensor([row[1] for row in rows]), rtol=0, atol=1e-2)
        x1, y1, x2, y2 = region
        across += sum(b[0] < x1 or b[1] < y1 or b[2] > x2 or b[3] > y2 for *_, places in rows for b in places)
        assert len(set(candidates.scores.argmax(1).tolist())) > 1
    assert (across > 3) == (looks > 1)  # so that clipping matters


def test_one_look_and_power_zero_are_the_softmax_and_the_decoded_boxes(
    heads: RoiHeads, features: list[Tensor], proposals: list[Proposals]
) -> None:
    """Bit by bit: the assignment's detector. An objectness of 0 to the power 0 is 1."""
    found = heads.refine(features, proposals, REGIONS, evaluate_params(box_passes=1, objectness_power=0.0))
    logits, deltas = heads.classify(features, [one.boxes for one in proposals])
    first = len(proposals[0].boxes)
    assert proposals[0].scores[-1] == 0
    for one, given, rows in zip(found, proposals, (slice(0, first), slice(first, None)), strict=True):
        expected = Candidates.from_head(given.boxes, logits[rows], deltas[rows])
        assert_same(one, expected)


def assert_same(first: Candidates, second: Candidates, names: Sequence[str] = Candidates.__match_args__) -> None:
    """Bit by bit."""
    for name in names:
        assert torch.equal(getattr(first, name), getattr(second, name)), name


def test_each_look_changes_scores_and_boxes_but_not_what_the_first_one_said(
    heads: RoiHeads, features: list[Tensor], proposals: list[Proposals]
) -> None:
    found = [heads.refine(features, proposals, REGIONS, evaluate_params(box_passes=n))[0] for n in (1, 2, 3)]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert_same(found[one], found[other], ("proposals", "logits", "deltas"))
        assert (found[one].scores - found[other].scores).abs().max() > 0.01
        assert (found[one].boxes - found[other].boxes).abs().max() > 1
    assert torch.equal(found[2].proposals, proposals[0].boxes)
    assert (found[2].scores.sum(dim=1) < 1).all()  # background has its share in every look


@pytest.mark.parametrize("looks", [1, 2])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_scores_are_multiplied_by_a_power_of_the_objectness(
    heads: RoiHeads, features: list[Tensor], proposals: list[Proposals], power: float, looks: int
) -> None:
    plain = heads.refine(features, proposals, REGIONS, evaluate_params(box_passes=looks))
    found = heads.refine(features, proposals, REGIONS, evaluate_params(box_passes=looks, objectness_power=power))
    for one, without, given in zip(found, plain, proposals, strict=True):
        assert_same(one, without, ("proposals", "logits", "deltas", "boxes"))
        factors = [math.sqrt(score) if power == 0.5 else score ** int(power) for score in given.scores.tolist()]
        torch.testing.assert_close(one.scores, without.scores * torch.tensor(factors)[:, None])
    assert not found[0].scores[-1].any()  # its objectness is 0


@pytest.mark.parametrize("looks", [1, 3])
def test_images_keep_apart(heads: RoiHeads, features: list[Tensor], proposals: list[Proposals], looks: int) -> None:
    rules = evaluate_params(box_passes=looks, objectness_power=0.5)
    together = heads.refine(features, proposals, REGIONS, rules)
    for image in range(2):
        levels = of_image(features, image)
        (alone,) = heads.refine(levels, proposals[image : image + 1], REGIONS[image : image + 1], rules)
        for name in Candidates.__match_args__:
            expected = getattr(alone, name)
            torch.testing.assert_close(getattr(together[image], name), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("looks", [1, 3])
def test_images_without_proposals(
    heads: RoiHeads, features: list[Tensor], proposals: list[Proposals], looks: int
) -> None:
    rules = evaluate_params(box_passes=looks, objectness_power=0.5, score_threshold=0.0)
    for given in ([nothing(), nothing()], [nothing(), proposals[1]]):
        found = heads.refine(features, given, REGIONS, rules)
        for one, known in zip(found, given, strict=True):
            assert (one.scores.shape, one.boxes.shape) == ((len(known.boxes), 3), (len(known.boxes), 3, 4))
        assert [len(one) > 0 for one in heads.detect(features, given, REGIONS, rules)] == [
            len(known.boxes) > 0 for known in given
        ]
    whole = heads.refine(features, proposals, REGIONS, rules)
    torch.testing.assert_close(found[1].boxes, whole[1].boxes, rtol=1e-4, atol=1e-4)


def test_detections_are_postprocessed_from_the_last_look_and_their_masks_pooled_there(
    heads: RoiHeads, features: list[Tensor], proposals: list[Proposals]
) -> None:
    rules = evaluate_params(box_passes=2, objectness_power=0.5, score_threshold=0.1)
    found = heads.detect(features, proposals, REGIONS, rules)
    candidates = heads.refine(features, proposals, REGIONS, rules)
    expected = heads.add_masks(features, [postprocess(*one, rules) for one in zip(candidates, REGIONS, strict=True)])
    for one, other in zip(found, expected, strict=True):
        assert len(one) > 3
        for name in ("boxes", "labels", "scores", "proposals", "masks"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
    once = heads.detect(features, proposals, REGIONS, evaluate_params(score_threshold=0.1))
    assert not torch.equal(found[0].scores, once[0].scores)


@pytest.mark.parametrize("looks", [1, 2, 5])
def test_the_head_looks_so_often_and_never_outside_the_picture(
    heads: RoiHeads,
    features: list[Tensor],
    proposals: list[Proposals],
    monkeypatch: pytest.MonkeyPatch,
    looks: int,
) -> None:
    seen: list[Sequence[Tensor]] = []
    classify = heads.classify
    monkeypatch.setattr(heads, "classify", lambda maps, boxes: seen.append(boxes) or classify(maps, boxes))
    heads.refine(features, proposals, REGIONS, evaluate_params(box_passes=looks))
    assert len(seen) == looks
    for boxes in seen:
        for image, (x1, y1, x2, y2) in zip(boxes, REGIONS.tolist(), strict=True):
            assert (image >= torch.tensor([x1, y1, x1, y1])).all()
            assert (image <= torch.tensor([x2, y2, x2, y2])).all()

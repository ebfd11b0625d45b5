"""The one-stage detector against torchvision's RetinaNet, and what it does with nothing, crowds and a tiny set."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.retinanet import RetinaNet

from src.detector import one_stage, postprocess
from src.detector.dense_head import PRIOR, DenseHead
from src.detector.one_stage import OneStageDetector, image_losses
from src.structures.detector import Detector
from src.structures.loss_term import LossTerm
from tests.detector.one_stages import (
    CANVAS,
    CLASSES,
    GRIDS,
    OBJECTS,
    GivenLevels,
    detector,
    images,
    one_stage_params,
    settings,
    target,
    torchvision_of,
)

TERMS = {"classification", "box_regression"}
FULL = {"convolutions": 4}


@pytest.fixture(scope="module")
def ours() -> OneStageDetector:
    return detector(settings({"score_threshold": 0.3}, **FULL))


@pytest.fixture(scope="module")
def theirs(ours: OneStageDetector) -> RetinaNet:
    return torchvision_of(ours)


def test_it_is_a_detector(ours: OneStageDetector) -> None:
    assert isinstance(ours, Detector)
    terms = ours(images(1), OBJECTS[:1])
    assert set(terms) == TERMS
    assert all(isinstance(term, LossTerm) and term.count == 1 for term in terms.values())


def test_anchors_are_torchvision_s(ours: OneStageDetector, theirs: RetinaNet) -> None:
    levels = GivenLevels().levels_from(images(1).tensors, 4)
    canvas = torch.zeros(1, 3, *CANVAS)
    mine = ours.anchors(canvas, levels)
    assert [len(level) for level in mine] == [9 * height * width for height, width in GRIDS]
    from torchvision.models.detection.image_list import ImageList  # noqa: PLC0415

    (expected,) = theirs.anchor_generator(ImageList(canvas, [CANVAS]), levels)
    assert torch.equal(torch.cat(mine), expected)


def torchvision_losses(theirs: RetinaNet, numbers: tuple[int, ...], labels_from: int = 1) -> dict[str, Tensor]:
    targets = [{"boxes": one.boxes, "labels": one.labels - labels_from} for one in OBJECTS[: len(numbers)]]
    theirs.train()
    try:
        return theirs(list(images(*numbers).tensors), targets)
    finally:
        theirs.eval()


@pytest.mark.parametrize("numbers", [(1,), (1, 2)])
def test_losses_and_gradients_are_torchvision_s(
    ours: OneStageDetector, theirs: RetinaNet, numbers: tuple[int, ...]
) -> None:
    expected = torchvision_losses(theirs, numbers)
    found = ours.losses(images(*numbers), OBJECTS[: len(numbers)])
    torch.testing.assert_close(found["classification"], expected["classification"])
    torch.testing.assert_close(found["box_regression"], expected["bbox_regression"])
    for model, terms in ((ours, found), (theirs, expected)):
        model.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
    pairs = [
        (ours.head.cls_logits, theirs.head.classification_head.cls_logits),
        (ours.head.bbox_pred, theirs.head.regression_head.bbox_reg),
        (ours.head.cls_tower[0], theirs.head.classification_head.conv[0][0]),
        (ours.head.bbox_tower[9], theirs.head.regression_head.conv[3][0]),
    ]
    for mine, other in pairs:
        torch.testing.assert_close(mine.weight.grad, other.weight.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("threshold", "most"), [(0.3, 100), (0.5, 100), (0.3, 7)])
def test_detections_are_torchvision_s(threshold: float, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postprocess, "SMALLEST_SIDE", 0.0)
    ours = detector(settings({"score_threshold": threshold, "detections_per_image": most}, **FULL))
    found = ours.detect(images(1, 2))
    with torch.no_grad():
        expected = torchvision_of(ours)(list(images(1, 2).tensors))
    for mine, other in zip(found, expected, strict=True):
        assert len(other["scores"]) >= min(most, 10)
        torch.testing.assert_close(mine.scores, other["scores"], rtol=0, atol=1e-5)
        assert torch.equal(mine.labels, other["labels"] + 1)
        torch.testing.assert_close(mine.boxes, other["boxes"], rtol=0, atol=1e-3)
        assert mine.masks.shape == (len(mine), 0, 0)
    if most > 50:
        assert len(torch.cat([one.labels for one in found]).unique()) == CLASSES


def test_the_best_of_each_level_alone_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchvision's `topk_candidates`."""
    monkeypatch.setattr(one_stage, "CANDIDATES", 4)
    ours = detector(settings({"score_threshold": 0.3, "nms_iou": 1.0}, **FULL))
    theirs = torchvision_of(ours)
    theirs.topk_candidates = 4
    (found,) = ours.detect(images(1))
    with torch.no_grad():
        (expected,) = theirs(list(images(1).tensors))
    assert len(found) == len(expected["scores"]) == 4 * len(GRIDS)
    torch.testing.assert_close(found.scores, expected["scores"], rtol=0, atol=1e-5)


def test_boxes_across_the_border_go_by_the_assignment_s_rule() -> None:
    rules = [
        settings({"score_threshold": 0.5, "detections_per_image": 2000, "border": rule}) for rule in ("clip", "remove")
    ]
    clipped, removed = (detector(whole).detect(images(1))[0] for whole in rules)
    assert 0 < len(removed) < len(clipped)
    for found in (clipped, removed):
        assert (found.boxes >= 0).all()
        assert (found.boxes[:, 2:] <= torch.tensor([CANVAS[1], CANVAS[0]])).all()


def test_proposals_are_the_anchors(ours: OneStageDetector) -> None:
    (found,) = ours.detect(images(1))
    levels = GivenLevels().levels_from(images(1).tensors, 4)
    anchors = {tuple(box) for level in ours.anchors(images(1).tensors, levels) for box in level.tolist()}
    assert {tuple(box) for box in found.proposals.tolist()} <= anchors


def test_an_image_without_objects_teaches_background_alone(ours: OneStageDetector, theirs: RetinaNet) -> None:
    found = ours.losses(images(1), [target([], [])])
    assert found["box_regression"] == 0
    theirs.train()
    try:
        expected = theirs(list(images(1).tensors), [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}])
    finally:
        theirs.eval()
    torch.testing.assert_close(found["classification"], expected["classification"])
    torch.stack(list(found.values())).sum().backward()  # nothing is divided by 0
    assert all(torch.isfinite(one.grad).all() for one in ours.parameters() if one.grad is not None)
    ours.zero_grad()


def test_what_lies_in_a_crowd_is_neither_object_nor_background() -> None:
    options = one_stage_params()
    anchors = torch.tensor([[0.0, 0, 20, 20], [60, 60, 90, 90], [0, 60, 30, 90]])
    deltas = torch.zeros(3, 4)
    one = target([[0, 0, 20, 20]], [2], crowd=[[50, 50, 100, 100]])
    sure = torch.full((3, CLASSES), -4.0)
    changed = sure.clone()
    changed[1] = 9.0  # in the crowd region, whatever it says
    values = [image_losses(logits, deltas, anchors, one, options)[0] for logits in (sure, changed)]
    assert values[0] == values[1]
    without = dataclasses.replace(one, crowd=torch.zeros(0, 4))
    assert image_losses(changed, deltas, anchors, without, options)[0] > 2 * values[0]


def test_an_anchor_between_the_thresholds_does_not_count() -> None:
    options = one_stage_params(fg_iou_thresh=0.7, bg_iou_thresh=0.3)
    anchors = torch.tensor([[0.0, 0, 20, 20], [0, 0, 20, 10], [60, 60, 90, 90]])  # IoU 1, 0.5, 0
    logits = torch.full((3, CLASSES), -4.0)
    other = logits.clone()
    other[1] = 9.0
    one, deltas = target([[0, 0, 20, 20]], [1]), torch.zeros(3, 4)
    assert image_losses(logits, deltas, anchors, one, options) == image_losses(other, deltas, anchors, one, options)


def test_an_image_s_losses_do_not_depend_on_its_minibatch(ours: OneStageDetector) -> None:
    together = ours.losses(images(1, 2), OBJECTS)
    alone = [ours.losses(images(number), [one]) for number, one in zip((1, 2), OBJECTS, strict=True)]
    for name, term in together.items():
        torch.testing.assert_close(term, torch.stack([one[name] for one in alone]).mean())


def test_at_the_start_every_class_is_as_unlikely_as_the_prior() -> None:
    torch.manual_seed(0)
    head = DenseHead(9, CLASSES, channels=16, convolutions=2)
    (logits,), (deltas,) = head([1e-3 * torch.randn(1, 256, 5, 4)])
    assert logits.shape == (1, 5 * 4 * 9, CLASSES)
    assert deltas.shape == (1, 5 * 4 * 9, 4)
    assert logits.sigmoid().detach().mean().item() == pytest.approx(PRIOR, rel=1e-2)


def test_a_head_without_towers() -> None:
    head = DenseHead(2, CLASSES, convolutions=0)
    (logits,), _ = head([torch.zeros(2, 256, 3, 3)])
    assert logits.shape == (2, 18, CLASSES)


def test_it_learns_one_image_by_heart() -> None:
    """The losses fall, and what is found is what is there."""
    torch.manual_seed(0)
    whole = settings({"score_threshold": 0.5, "class_agnostic_nms": True}, convolutions=1)
    model = OneStageDetector(GivenLevels(), CLASSES, whole)
    optimizer = torch.optim.AdamW(model.head.parameters(), lr=1e-3)
    one = target([[10, 12, 50, 60], [70, 20, 120, 90]], [1, 3])
    totals = []
    for _ in range(120):
        terms = model.losses(images(1), [one])
        total = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.1 * totals[0]
    (found,) = model.detect(images(1))
    order = found.labels.argsort()
    assert found.labels[order].tolist() == [1, 3]
    torch.testing.assert_close(found.boxes[order], one.boxes, rtol=0, atol=6)

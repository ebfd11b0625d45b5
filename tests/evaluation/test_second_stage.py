"""The assembled detector on examples: what it finds, and its second stage taken apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from src.data.letterbox import Letterbox
from src.data.normalize import normalize
from src.data.prepared import Example, PreparedFile
from src.detector.backbones import LITE
from src.detector.box_head import decode_scaled
from src.detector.mask_rcnn import MaskRCNN
from src.evaluation.analysis import SecondStageAnalysis
from src.evaluation.instances import Instances
from src.evaluation.predictor import to_source
from src.evaluation.rpn_metrics import paired_iou
from src.evaluation.second_stage import analyze, refine
from src.ops.boxes import box_iou, clip
from src.structures.target import Target, no_target
from tests.evaluation.detectors import predictor, small_detector, small_params
from tests.factories import make_prepared

REGION = torch.tensor([16.0, 0, 144, 96])  # of the factories' small canvas
FAR = torch.tensor([[20.0, 1, 30, 9], [60, 85, 75, 95], [130, 80, 143, 95]])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedFile]:
    with PreparedFile(make_prepared(tmp_path_factory.mktemp("detector"), 6)) as file:
        yield file


@pytest.fixture(scope="module")
def letterbox(prepared: PreparedFile) -> Letterbox:
    return prepared.letterbox(0)


@pytest.fixture(scope="module")
def example(prepared: PreparedFile) -> Example:
    """A picture with two objects."""
    return prepared.example(next(index for index in range(6) if len(prepared.labels(index)) == 2))


@pytest.fixture(scope="module")
def detector() -> MaskRCNN:
    return small_detector()


def proposals(example: Example) -> Tensor:
    boxes = example.target.boxes
    return torch.cat([clip(boxes + 2, REGION), FAR, clip(boxes[:1] - 3, REGION)])


def analysis(detector: MaskRCNN, example: Example, boxes: Tensor | None = None) -> SecondStageAnalysis:
    """Of the detector with given proposals, near the objects and far from them unless the test says otherwise."""
    boxes = proposals(example) if boxes is None else boxes
    return analyze(predictor(detector, small_params(), boxes), example)


def with_target(example: Example, objects: slice, crowd: slice) -> Example:
    """The picture with some of its objects only, and some of them as crowd regions."""
    whole = example.target
    target = Target(whole.boxes[objects], whole.labels[objects], whole.masks[objects], whole.boxes[crowd])
    return dataclasses.replace(example, target=target)


def assert_equal(first: Instances, second: Instances) -> None:
    """Bit by bit."""
    for name in ("boxes", "labels", "scores", "proposals"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert first.masks == second.masks


def second_stage(detector: MaskRCNN, example: Example, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and refined boxes of every class, straight from the parts."""
    images = normalize(example.image[None], LITE, REGION[None])
    with torch.no_grad():
        logits, deltas = detector.roi_heads.classify(detector.backbone(images), [boxes])
    return logits, clip(decode_scaled(deltas, boxes), REGION)


@pytest.mark.parametrize("passes", [{}, {"box_passes": 2}, {"box_passes": 3, "objectness_power": 0.5}])
@pytest.mark.parametrize("border", ["remove", "clip"])
def test_both_border_rules_are_those_of_the_detector(
    detector: MaskRCNN, example: Example, letterbox: Letterbox, border: str, passes: dict[str, float]
) -> None:
    params = small_params(border=border, **passes)
    run = predictor(detector, params, proposals(example))
    with torch.no_grad():
        (found,) = run.detector.detect(run.batcher.images([example]))
    assert found.masks.shape[1:] == (28, 28)
    assert ((found.masks >= 0) & (found.masks <= 1)).all()
    expected = to_source(found, letterbox, params.evaluate.mask_threshold)
    stage = analyze(run, example)
    assert list(stage.found) == ["remove", "clip"]
    assert_equal(stage.found[border], expected)
    assert 0 < len(stage.found["remove"]) < len(stage.found["clip"])  # so the rules differ here


def test_the_network_s_own_proposals_under_every_setting(
    detector: MaskRCNN, example: Example, letterbox: Letterbox
) -> None:
    params = small_params(proposals=20, border="clip", score_threshold=0.1, detections_per_image=7, mask_threshold=0.3)
    run = predictor(detector, params)
    stage = analyze(run, example)
    found = run.detect(example)
    assert stage.name == example.name
    assert len(stage.proposals) == 20
    assert len(found) == 7
    assert_equal(stage.found["clip"], to_source(found, letterbox, 0.3))
    assert stage.found["clip"].masks != to_source(found, letterbox, 0.5).masks


def test_proposals_are_judged_by_their_overlap(detector: MaskRCNN, example: Example, letterbox: Letterbox) -> None:
    boxes = proposals(example)
    stage = analysis(detector, example, boxes)
    first, second = example.target.labels.tolist()
    assert stage.truth.tolist() == [first, second, 0, 0, 0, first]
    logits, refined = second_stage(detector, example, boxes)
    assert torch.equal(stage.predicted, logits.argmax(1))
    assert torch.equal(stage.proposals, letterbox.boxes_to_source(boxes))
    rows, wholes = torch.tensor([0, 1, 5]), example.target.boxes[[0, 1, 0]]
    torch.testing.assert_close(stage.iou_before, paired_iou(boxes[rows], wholes))
    torch.testing.assert_close(stage.iou_after, paired_iou(refined[rows, stage.truth[rows]], wholes))
    assert (stage.iou_before >= 0.5).all()


def test_the_numbers_are_of_the_first_look_and_the_detections_of_the_last(detector: MaskRCNN, example: Example) -> None:
    boxes = proposals(example)
    first = analyze(predictor(detector, small_params(), boxes), example)
    params = small_params(box_passes=3, objectness_power=0.5)
    last = analyze(predictor(detector, params, boxes), example)
    for name in ("proposals", "truth", "predicted", "iou_before", "iou_after", "halves_before", "halves_after"):
        assert torch.equal(getattr(last, name), getattr(first, name)), name
    for border in ("remove", "clip"):
        assert not torch.equal(last.found[border].boxes, first.found[border].boxes)
        assert set(map(tuple, last.found[border].proposals.tolist())) <= set(map(tuple, last.proposals.tolist()))


def test_a_second_look_is_at_the_first_one_s_boxes(detector: MaskRCNN, example: Example, letterbox: Letterbox) -> None:
    """The best class's box of the one proposal, looked at by hand; its score is the mean of the two."""
    box = proposals(example)[:1]
    logits, refined = second_stage(detector, example, box)
    again, boxes = second_stage(detector, example, refined[0, 1 + logits[0, 1:].argmax()][None])
    params = small_params(box_passes=2, border="clip", nms_iou=1.0)
    found = analyze(predictor(detector, params, box), example).found["clip"]
    assert sorted(found.labels.tolist()) == [1, 2, 3]
    scores = (logits.softmax(1)[0] + again.softmax(1)[0]) / 2
    torch.testing.assert_close(found.scores, scores[found.labels], rtol=0, atol=1e-3)
    torch.testing.assert_close(found.boxes, letterbox.boxes_to_source(boxes[0])[found.labels], rtol=0, atol=0.5)


@pytest.mark.parametrize(("threshold", "objects"), [(0.5, 1), (0.45, 2), (0.4, 3), (0.6, 0)])
def test_which_proposal_is_an_object_is_a_matter_of_params(
    detector: MaskRCNN, example: Example, threshold: float, objects: int
) -> None:
    x1, y1, x2, y2 = example.target.boxes[0].tolist()
    boxes = torch.tensor([[x1, y1, x1 + share * (x2 - x1), y2] for share in (0.52, 0.48, 0.42)])
    params = small_params()
    params = dataclasses.replace(params, rois=dataclasses.replace(params.rois, fg_iou_thresh=threshold))
    alone = with_target(example, slice(0, 1), slice(0, 0))
    stage = analyze(predictor(detector, params, boxes), alone)
    label = int(example.target.labels[0])
    assert stage.truth.tolist() == [label] * objects + [0] * (3 - objects)


def test_the_detector_sees_its_best_proposals_only(detector: MaskRCNN, example: Example) -> None:
    run = predictor(detector, small_params(proposals=2), proposals(example))
    assert len(analyze(run, example).truth) == 2


def test_halves_start_at_one_half(detector: MaskRCNN, example: Example) -> None:
    stage = analysis(detector, example)
    assert stage.halves_before.tolist() == pytest.approx([0.5] * 8, abs=1e-5)
    left = example.target.boxes[:1].clone()
    left[:, 2] = (left[:, 0] + left[:, 2]) / 2
    _, refined = second_stage(detector, example, left)
    expected = box_iou(refined[0, example.target.labels[0]][None], example.target.boxes[:1])
    assert float(stage.halves_after[0]) == pytest.approx(float(expected), abs=1e-5)
    assert len(stage.halves_after) == 8


def test_background_in_a_crowd_is_not_judged(detector: MaskRCNN, example: Example) -> None:
    crowd = with_target(example, slice(0, 1), slice(1, 2))
    stage = analysis(detector, crowd, proposals(example))
    label = int(example.target.labels[0])
    assert stage.truth.tolist() == [label, -1, 0, 0, 0, label]
    assert len(stage.halves_before) == 4


def check_sizes(stage: SecondStageAnalysis, proposed: int, objects: int) -> None:
    assert len(stage.truth) == len(stage.predicted) == len(stage.proposals) == proposed
    assert len(stage.halves_before) == len(stage.halves_after) == 4 * objects


def test_no_objects_and_no_proposals(detector: MaskRCNN, example: Example) -> None:
    bare = dataclasses.replace(example, target=no_target(*example.image.shape[1:]))
    stage = analysis(detector, bare, FAR)
    check_sizes(stage, 3, 0)
    assert (stage.truth == 0).all()
    assert stage.iou_before.shape == stage.iou_after.shape == (0,)
    nothing = analysis(detector, example, FAR[:0])
    check_sizes(nothing, 0, 2)
    assert [(len(found), found.masks) for found in nothing.found.values()] == [(0, [])] * 2


def test_refine_moves_by_the_given_class_and_clips() -> None:
    deltas = torch.zeros(2, 16)
    deltas[0, 4:8] = torch.tensor([5.0, 0, 0, 0])  # class 1: half a width to the right
    deltas[1, 8:12] = torch.tensor([0, -10.0, 0, 0])  # class 2: a whole height up
    boxes = torch.tensor([[20.0, 10, 40, 30], [120, 5, 140, 25]])
    found = refine(deltas, boxes, torch.tensor([1, 2]), REGION)
    assert found.tolist() == [[30, 10, 50, 30], [120, 0, 140, 5]]
    assert refine(deltas[:0], boxes[:0], torch.zeros(0, dtype=torch.int64), REGION).shape == (0, 4)

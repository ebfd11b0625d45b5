"""The assembled detector on examples: what it finds, its second stage taken apart, and the way back to the picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from src.data.letterbox import Letterbox
from src.data.normalize import normalize
from src.data.prepared import Example, PreparedFile
from src.detector.backbones import LITE0, Lite0Body
from src.detector.box_head import SIZE, BoxHead, decode_scaled
from src.detector.mask_head import MaskHead
from src.detector.mask_rcnn import BackboneWithFpn, Detections, MaskRCNN, pool
from src.detector.rpn import Proposals, RegionProposalNetwork
from src.evaluation.rle import decode_masks
from src.evaluation.rpn_metrics import paired_iou
from src.evaluation.second_stage import Predictor, SecondStageAnalysis, refine, to_source
from src.ops.boxes import box_iou, clip
from src.ops.masks import paste_masks
from src.structures.image_list import ImageList
from tests.detector.small import TORCHVISION_PROPOSALS, evaluate_params, randomise
from tests.factories import make_prepared

CONTENT = torch.tensor([16.0, 0, 144, 96])  # of the factories' small canvas
FAR = torch.tensor([[20.0, 1, 30, 9], [60, 85, 75, 95], [130, 80, 143, 95]])


class GivenProposals(RegionProposalNetwork):
    """An RPN that proposes what the test says, best first."""

    def __init__(self, boxes: Tensor) -> None:
        super().__init__((32.0,) * 5, (1.0,), TORCHVISION_PROPOSALS, channels=1)
        self.boxes = boxes

    def forward(self, images: ImageList, features: Any) -> list[Proposals]:
        return [Proposals(self.boxes, torch.linspace(1, 0.5, len(self.boxes)))]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedFile]:
    with PreparedFile(make_prepared(tmp_path_factory.mktemp("detector"), 6)) as file:
        yield file


@pytest.fixture(scope="module")
def example(prepared: PreparedFile) -> Example:
    """A picture with two objects."""
    return prepared.example(next(index for index in range(6) if len(prepared.labels(index)) == 2))


@pytest.fixture(scope="module")
def detector() -> MaskRCNN:
    torch.manual_seed(0)
    backbone = BackboneWithFpn("efficientnet_lite0", Lite0Body(pretrained=True))
    net = MaskRCNN(backbone, GivenProposals(FAR), BoxHead(hidden=16), MaskHead(channels=8), 50).eval()
    randomise(net.box_head.parameters(), 1, 0.1)
    randomise(net.mask_head.parameters(), 2, 0.1)
    return net


def runner(detector: MaskRCNN, boxes: Tensor, **changes: Any) -> Predictor:
    """The detector with given proposals, in float32."""
    detector.rpn = GivenProposals(boxes)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    return Predictor(detector, fabric, "efficientnet_lite0", evaluate_params(**({"score_threshold": 0.0} | changes)))


def proposals(example: Example) -> Tensor:
    return torch.cat([clip(example.boxes + 2, CONTENT), FAR, clip(example.boxes[:1] - 3, CONTENT)])


def equal(first: Detections, second: Detections) -> bool:
    return all(torch.equal(getattr(first, f.name), getattr(second, f.name)) for f in dataclasses.fields(Detections))


def second_stage(detector: MaskRCNN, example: Example, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and refined boxes of every class, straight from the parts."""
    images = normalize(example.image[None], LITE0, CONTENT[None])
    with torch.no_grad():
        logits, deltas = detector.box_head(pool(detector.backbone(images), [boxes], SIZE))
    return logits, clip(decode_scaled(deltas, boxes), CONTENT)


@pytest.mark.parametrize("border", ["remove", "clip"])
def test_both_border_rules_are_those_of_the_detector(
    detector: MaskRCNN, example: Example, prepared: PreparedFile, border: str
) -> None:
    run = runner(detector, proposals(example), border=border)
    found = run.find(example, prepared.letterbox)
    assert len(found.labels) > 0
    assert equal(run.examine(example, prepared.letterbox).found[border], found)
    assert found.masks.shape[1:] == (28, 28)
    assert ((found.masks >= 0) & (found.masks <= 1)).all()


def test_proposals_are_judged_by_their_overlap(detector: MaskRCNN, example: Example, prepared: PreparedFile) -> None:
    boxes = proposals(example)
    stage = runner(detector, boxes).examine(example, prepared.letterbox)
    first, second = example.labels.tolist()
    assert stage.truth.tolist() == [first, second, 0, 0, 0, first]
    logits, refined = second_stage(detector, example, boxes)
    assert torch.equal(stage.predicted, logits.argmax(1))
    assert torch.equal(stage.proposals, boxes)
    assert torch.equal(stage.objects, example.boxes)
    rows, wholes = torch.tensor([0, 1, 5]), example.boxes[[0, 1, 0]]
    torch.testing.assert_close(stage.iou_before, paired_iou(boxes[rows], wholes))
    torch.testing.assert_close(stage.iou_after, paired_iou(refined[rows, stage.truth[rows]], wholes))
    assert (stage.iou_before >= 0.5).all()


def test_a_proposal_of_an_object_overlaps_it_by_one_half(
    detector: MaskRCNN, example: Example, prepared: PreparedFile
) -> None:
    x1, y1, x2, y2 = example.boxes[0].tolist()
    boxes = torch.tensor([[x1, y1, x1 + share * (x2 - x1), y2] for share in (0.52, 0.48, 0.42)])
    alone = dataclasses.replace(example, boxes=example.boxes[:1], labels=example.labels[:1], crowd=example.crowd[:1])
    stage = runner(detector, boxes).examine(alone, prepared.letterbox)
    assert stage.truth.tolist() == [int(example.labels[0]), 0, 0]


def test_the_detector_sees_its_best_proposals_only(
    detector: MaskRCNN, example: Example, prepared: PreparedFile
) -> None:
    detector.proposals = 2
    try:
        assert len(runner(detector, proposals(example)).examine(example, prepared.letterbox).truth) == 2
    finally:
        detector.proposals = 50


def test_halves_start_at_one_half(detector: MaskRCNN, example: Example, prepared: PreparedFile) -> None:
    stage = runner(detector, proposals(example)).examine(example, prepared.letterbox)
    assert stage.halves_before.tolist() == pytest.approx([0.5] * 8, abs=1e-5)
    left = example.boxes[:1].clone()
    left[:, 2] = (left[:, 0] + left[:, 2]) / 2
    _, refined = second_stage(detector, example, left)
    expected = box_iou(refined[0, example.labels[0]][None], example.boxes[:1])
    assert float(stage.halves_after[0]) == pytest.approx(float(expected), abs=1e-5)
    assert len(stage.halves_after) == 8


def test_background_in_a_crowd_is_not_judged(detector: MaskRCNN, example: Example, prepared: PreparedFile) -> None:
    crowd = dataclasses.replace(example, crowd=torch.tensor([False, True]))
    stage = runner(detector, proposals(example)).examine(crowd, prepared.letterbox)
    assert stage.truth.tolist() == [int(example.labels[0]), -1, 0, 0, 0, int(example.labels[0])]
    assert len(stage.halves_before) == 4


def check_sizes(stage: SecondStageAnalysis, proposed: int, objects: int) -> None:
    assert len(stage.truth) == len(stage.predicted) == proposed
    assert len(stage.halves_before) == len(stage.halves_after) == 4 * objects


def test_no_objects_and_no_proposals(detector: MaskRCNN, example: Example, prepared: PreparedFile) -> None:
    bare = dataclasses.replace(
        example, boxes=example.boxes[:0], labels=example.labels[:0], masks=example.masks[:0], crowd=example.crowd[:0]
    )
    stage = runner(detector, FAR).examine(bare, prepared.letterbox)
    check_sizes(stage, 3, 0)
    assert (stage.truth == 0).all()
    assert stage.iou_before.shape == stage.iou_after.shape == (0,)
    nothing = runner(detector, FAR[:0])
    check_sizes(nothing.examine(example, prepared.letterbox), 0, 2)
    assert nothing.find(example, prepared.letterbox).masks.shape[0] == 0


def test_refine_moves_by_the_given_class_and_clips() -> None:
    deltas = torch.zeros(2, 16)
    deltas[0, 4:8] = torch.tensor([5.0, 0, 0, 0])  # class 1: half a width to the right
    deltas[1, 8:12] = torch.tensor([0, -10.0, 0, 0])  # class 2: a whole height up
    boxes = torch.tensor([[20.0, 10, 40, 30], [120, 5, 140, 25]])
    found = refine(deltas, boxes, torch.tensor([1, 2]), CONTENT)
    assert found.tolist() == [[30, 10, 50, 30], [120, 0, 140, 5]]
    assert refine(deltas[:0], boxes[:0], torch.zeros(0, dtype=torch.int64), CONTENT).shape == (0, 4)


def detections(boxes: list[list[float]], masks: Tensor) -> Detections:
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.ones(len(rows), dtype=torch.int64)
    return Detections(rows, labels, torch.full((len(rows),), 0.5), rows, masks)


def test_the_way_back_moves_boxes_and_masks() -> None:
    letterbox = Letterbox(height=96, width=128, padded_width=160, source_height=48, source_width=64)  # twice as large
    masks = torch.zeros(2, 28, 28)
    masks[0] = 1.0
    masks[1, :, 14:] = 1.0  # its right half
    canvas = [[36.0, 20, 92, 76], [16, 0, 144, 96]]
    found = to_source(detections(canvas, masks), letterbox, 0.5)
    assert found.boxes.tolist() == [[10, 10, 38, 38], [0, 0, 64, 48]]
    assert found.masks is not None
    pixels = decode_masks(found.masks, 48, 64)
    expected = torch.zeros(2, 48, 64, dtype=torch.bool)
    expected[0, 10:38, 10:38] = True
    expected[1, :, 32:] = True
    assert torch.equal(torch.as_tensor(pixels), expected)


def test_boxes_stay_fractions_and_masks_are_thresholded_last() -> None:
    letterbox = Letterbox(96, 128, 160, 48, 64)
    masks = torch.full((1, 28, 28), 0.4)
    masks[0, :, 14:] = 0.9  # half way between, 0.65: thresholded before, the border would lie a pixel further right
    found = to_source(detections([[36.5, 20.5, 93, 77.5]], masks), letterbox, 0.5)
    assert found.boxes.tolist() == [[10.25, 10.25, 38.5, 38.75]]
    expected = paste_masks(masks, found.boxes, 48, 64) >= 0.5
    assert torch.equal(torch.as_tensor(decode_masks(found.masks, 48, 64)), expected)
    assert not torch.equal(paste_masks((masks >= 0.5).float(), found.boxes, 48, 64) >= 0.5, expected)


@pytest.mark.parametrize(("threshold", "filled"), [(0.3, True), (0.5, False)])
def test_masks_are_thresholded_in_the_picture(threshold: float, filled: bool) -> None:
    letterbox = Letterbox(96, 128, 160, 48, 64)
    found = to_source(detections([[36, 20, 92, 76]], torch.full((1, 28, 28), 0.4)), letterbox, threshold)
    pixels = torch.as_tensor(decode_masks(found.masks, 48, 64))
    assert bool(pixels.any()) == filled


def test_nothing_found_goes_back_as_nothing() -> None:
    found = to_source(detections([], torch.zeros(0, 28, 28)), Letterbox(96, 128, 160, 48, 64), 0.5)
    assert len(found) == 0
    assert found.masks == []

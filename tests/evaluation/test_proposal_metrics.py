"""The FPN's proposals and its objectness on test images, against plain counting."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torchvision.ops import box_iou

from src.data.prepared import Example, PreparedFile
from src.detector.backbones import LITE0
from src.detector.mask_rcnn import BackboneWithFpn
from src.detector.rpn import RegionProposalNetwork
from src.evaluation.proposal_metrics import PartB, proposal_quality
from tests.detector.small import TORCHVISION_PROPOSALS, backbone_params, randomise
from tests.factories import make_prepared

CONTENT = (16.0, 0.0, 144.0, 96.0)  # of the factories' small canvas
CHANNELS = 4
PARAMS = backbone_params(fg_iou_thresh=0.55, bg_iou_thresh=0.15)


class Averages(BackboneWithFpn):
    """Feature maps of the five strides: mean colors, and a constant."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [nn.functional.avg_pool2d(images, stride, ceil_mode=True) for stride in (4, 8, 16, 32, 64)]
        return [torch.cat([level, torch.ones_like(level[:, :1])], dim=1) for level in maps]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Example]]:
    with PreparedFile(make_prepared(tmp_path_factory.mktemp("part_b"), 4)) as prepared:
        yield [prepared.example(index, masks=False) for index in range(4)]


@pytest.fixture(scope="module")
def part() -> PartB:
    rpn = RegionProposalNetwork((16.0, 32.0, 64.0, 128.0, 256.0), (0.5, 1.0, 2.0), TORCHVISION_PROPOSALS, CHANNELS)
    randomise(rpn.parameters(), 0)
    return PartB(Averages(), rpn, Fabric(accelerator="cpu", devices=1, precision="32-true"), LITE0, CONTENT)


@torch.no_grad()
def plain_objectness(part: PartB, example: Example) -> tuple[list[float], list[float]]:
    """Objectness of the anchors that match an object, and of the background, anchor by anchor."""
    images = part.images([example])
    features = part.features(images)
    anchors = torch.cat(part.rpn.anchors((96, 160), [tuple(level.shape[2:]) for level in features]))
    scores = part.rpn.predict(features)[0][0].sigmoid().tolist()
    iou = box_iou(example.boxes, anchors)
    best = iou.amax(dim=1).tolist()
    positive, negative = [], []
    for score, column in zip(scores, iou.T.tolist(), strict=True):
        if max(column) >= 0.55 or any(value == top for value, top in zip(column, best, strict=True)):
            positive.append(score)
        elif max(column) < 0.15:
            negative.append(score)
    return positive, negative


def test_objectness_is_a_mean_over_the_anchors_of_all_images(part: PartB, examples: list[Example]) -> None:
    images = [plain_objectness(part, example) for example in examples]
    positive, negative = ([score for image in images for score in image[kind]] for kind in (0, 1))
    found = proposal_quality(part, examples, PARAMS)
    assert found.objectness_positive == pytest.approx(sum(positive) / len(positive), rel=1e-5)
    assert found.objectness_negative == pytest.approx(sum(negative) / len(negative), rel=1e-5)


def test_recall_counts_the_objects_of_all_images(part: PartB, examples: list[Example]) -> None:
    covered = 0
    for example in examples:
        images = part.images([example])
        boxes = part.propose(images, part.features(images))[0].boxes
        covered += int((box_iou(example.boxes, boxes) >= 0.5).any(dim=1).sum())
    objects = sum(len(example.labels) for example in examples)
    found = proposal_quality(part, examples, PARAMS).as_metrics()
    assert found["recall"]["1000"] == pytest.approx(covered / objects)
    assert list(found) == ["recall", "objectness_positive", "objectness_negative"]


def test_images_without_objects_leave_undefined_what_is_undefined(part: PartB, examples: list[Example]) -> None:
    bare = dataclasses.replace(
        examples[0], boxes=torch.zeros(0, 4), labels=examples[0].labels[:0], crowd=examples[0].crowd[:0]
    )
    found = proposal_quality(part, [bare], PARAMS)
    assert found.objectness_positive is None
    assert found.objectness_negative is not None
    assert set(found.recall.values()) == {None}
    assert proposal_quality(part, [], PARAMS).objectness_negative is None

"""The FPN's proposals and its objectness on test images, against plain counting."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torchvision.ops import box_iou

from src.data.batches import Batcher
from src.data.prepared import Example, PreparedFile
from src.detector.backbones import LITE
from src.detector.mask_rcnn import BackboneWithFpn
from src.detector.proposer import Proposer
from src.detector.rpn import RegionProposalNetwork
from src.evaluation.proposal_metrics import proposal_quality
from src.structures.target import no_target
from tests.detector.small import TORCHVISION_PROPOSALS, backbone_params, randomize
from tests.factories import make_prepared

REGION = (16.0, 0.0, 144.0, 96.0)  # of the factories' small canvas
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
    with PreparedFile(make_prepared(tmp_path_factory.mktemp("proposals"), 4)) as prepared:
        yield [prepared.example(index, masks=False) for index in range(4)]


@pytest.fixture(scope="module")
def proposer() -> Proposer:
    rpn = RegionProposalNetwork((16.0, 32.0, 64.0, 128.0, 256.0), (0.5, 1.0, 2.0), TORCHVISION_PROPOSALS, CHANNELS)
    randomize(rpn.parameters(), 0)
    batcher = Batcher(LITE, torch.device("cpu"))
    return Proposer(Averages(), rpn, Fabric(accelerator="cpu", devices=1, precision="32-true"), batcher)


@torch.no_grad()
def plain_objectness(proposer: Proposer, example: Example) -> tuple[list[float], list[float]]:
    """Objectness of the anchors that match an object, and of the background, anchor by anchor."""
    images = proposer.batcher.images([example])
    features = proposer.features(images)
    anchors = torch.cat(proposer.rpn.anchors((96, 160), [tuple(level.shape[2:]) for level in features]))
    scores = proposer.rpn.predict(features)[0][0].sigmoid().tolist()
    iou = box_iou(example.target.boxes, anchors)
    best = iou.amax(dim=1).tolist()
    positive, negative = [], []
    for score, column in zip(scores, iou.T.tolist(), strict=True):
        if max(column) >= 0.55 or any(value == top for value, top in zip(column, best, strict=True)):
            positive.append(score)
        elif max(column) < 0.15:
            negative.append(score)
    return positive, negative


def test_objectness_is_a_mean_over_the_anchors_of_all_images(proposer: Proposer, examples: list[Example]) -> None:
    images = [plain_objectness(proposer, example) for example in examples]
    positive, negative = ([score for image in images for score in image[kind]] for kind in (0, 1))
    found = proposal_quality(proposer, examples, PARAMS)
    assert found.objectness_positive == pytest.approx(sum(positive) / len(positive), rel=1e-5)
    assert found.objectness_negative == pytest.approx(sum(negative) / len(negative), rel=1e-5)


def test_recall_counts_the_objects_of_all_images(proposer: Proposer, examples: list[Example]) -> None:
    covered = 0
    for example in examples:
        images = proposer.batcher.images([example])
        boxes = proposer.propose(images, proposer.features(images))[0].boxes
        covered += int((box_iou(example.target.boxes, boxes) >= 0.5).any(dim=1).sum())
    objects = sum(len(example.target.labels) for example in examples)
    found = proposal_quality(proposer, examples, PARAMS).as_metrics()
    assert found["recall"]["1000"] == pytest.approx(covered / objects)
    assert list(found) == ["recall", "objectness_positive", "objectness_negative"]


def test_images_without_objects_leave_undefined_what_is_undefined(proposer: Proposer, examples: list[Example]) -> None:
    bare = dataclasses.replace(examples[0], target=no_target(96, 160))
    found = proposal_quality(proposer, [bare], PARAMS)
    assert found.objectness_positive is None
    assert found.objectness_negative is not None
    assert set(found.recall.values()) == {None}
    assert proposal_quality(proposer, [], PARAMS).objectness_negative is None

"""Fine-tuning of backbone, FPN and RPN: targets, and losses equal to those on dense maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from src.data.prepared import Example, PreparedFile
from src.detector import criteria as module
from src.detector.backbones import LITE0, STRIDES, set_trainable_layers
from src.detector.box_head import SIZE, decode_scaled
from src.detector.criteria import ImageTargets, Learner, image_list, losses, truth_of
from src.detector.weights import build
from src.ops.boxes import box_iou, decode
from src.ops.losses import class_loss, delta_loss, objectness_loss
from src.ops.roi_align import multiscale_roi_align
from tests.detector.small import TORCHVISION_PROPOSALS, backbone_params, randomise
from tests.factories import make_prepared

CPU = torch.device("cpu")
CONTENT = (16.0, 0.0, 144.0, 96.0)  # of the factories' small canvas
PARAMS = backbone_params(name="efficientnet_lite0", weights="imagenet", samples=24, rois=12)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Example]]:
    with PreparedFile(make_prepared(tmp_path_factory.mktemp("backbone"), 6)) as prepared:
        assert prepared.letterbox.content == CONTENT
        yield [prepared.example(index, masks=False) for index in range(6)]


@pytest.fixture(scope="module")
def learner() -> Learner:
    torch.manual_seed(0)
    net = Learner(*build(PARAMS, TORCHVISION_PROPOSALS))
    randomise(net.rpn.parameters(), 1, 0.02)
    randomise(net.auxiliary.parameters(), 2, 0.02)
    return net


def without_objects(example: Example) -> Example:
    return dataclasses.replace(example, boxes=torch.zeros(0, 4), labels=example.labels[:0], crowd=example.crowd[:0])


def with_crowd(example: Example) -> Example:
    """All of its objects but the first become a crowd region."""
    crowd = torch.ones_like(example.crowd)
    crowd[0] = False
    return dataclasses.replace(example, crowd=crowd)


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> list[ImageTargets]:
    """The targets that `losses` has drawn."""
    drawn: list[ImageTargets] = []
    original = module.image_targets

    def keep(*args: Any) -> ImageTargets:
        drawn.append(original(*args))
        return drawn[-1]

    monkeypatch.setattr(module, "image_targets", keep)
    return drawn


def total(terms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def dense_losses(learner: Learner, examples: list[Example], targets: list[ImageTargets]) -> dict[str, Tensor]:
    """The same losses from dense feature maps."""
    images = image_list(examples, LITE0, CONTENT, CPU)
    levels = learner.backbone(images.tensors)
    logits, deltas = learner.rpn.predict(levels)
    rois = torch.cat([torch.nn.functional.pad(t.rois, (1, 0), value=i) for i, t in enumerate(targets)])
    class_logits, class_deltas = learner.auxiliary(multiscale_roi_align(levels[:4], rois, SIZE, STRIDES))
    objectness, regression = [], []
    for i, image in enumerate(targets):
        chosen, positives = image.anchors.indices, image.anchors.positives
        objectness.append(objectness_loss(logits[i, chosen], positives))
        regression.append(delta_loss(deltas[i, chosen[:positives]], image.anchor_deltas, len(chosen)))
    labels = torch.cat([image.roi_labels for image in targets])
    rows = labels.nonzero().squeeze(1)
    picked = class_deltas.reshape(len(rois), -1, 4)[rows, labels[rows]]
    return {
        "objectness": torch.stack(objectness).mean(),
        "regression": torch.stack(regression).mean(),
        "classification": class_loss(class_logits, labels),
        "refinement": delta_loss(picked, torch.cat([image.roi_deltas for image in targets]), len(labels)),
    }


def test_losses_and_gradients_are_those_of_dense_maps(
    learner: Learner, examples: list[Example], spied: list[ImageTargets]
) -> None:
    set_trainable_layers(learner.backbone.body, 2)
    batch = [examples[0], without_objects(examples[1])]
    torch.manual_seed(3)
    found = losses(learner, batch, CONTENT, PARAMS)
    expected = dense_losses(learner, batch, spied)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value > 0, name
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    ours, dense = (torch.autograd.grad(total(terms), parameters, retain_graph=True) for terms in (found, expected))
    for gradient, wanted in zip(ours, dense, strict=True):
        assert (gradient - wanted).norm() <= 1e-3 * wanted.norm() + 1e-6


def test_targets_are_what_the_boxes_say(learner: Learner, examples: list[Example], spied: list[ImageTargets]) -> None:
    torch.manual_seed(3)
    losses(learner, examples[:1], CONTENT, PARAMS)
    image, truth = spied[0], truth_of(examples[0], CPU)
    anchors = torch.cat(learner.rpn.anchors((96, 160), [(24, 40), (12, 20), (6, 10), (3, 5), (2, 3)]))
    positives = image.anchors.positives
    assert positives > 0
    moved = decode(image.anchor_deltas, anchors[image.anchors.indices[:positives]])
    torch.testing.assert_close(moved, truth.boxes[image.anchors.truth], rtol=1e-3, atol=0.05)
    assert len(image.rois) <= PARAMS.rois
    overlap = box_iou(truth.boxes, image.rois)
    count = image.roi_positives
    assert 0 < count <= PARAMS.rois // 4
    assert (overlap[:, :count].amax(0) >= 0.5).all()
    assert (overlap[:, count:].amax(0) < 0.5).all()
    assert image.roi_labels[:count].tolist() == truth.labels[overlap[:, :count].argmax(0)].tolist()
    assert (image.roi_labels[count:] == 0).all()
    refined = decode_scaled(image.roi_deltas, image.rois[:count])[:, 0]
    torch.testing.assert_close(refined, truth.boxes[overlap[:, :count].argmax(0)], rtol=1e-3, atol=0.05)


def test_thresholds_are_those_of_the_parameters(learner: Learner, examples: list[Example]) -> None:
    """At low ones, anchors and RoIs of a poor overlap become objects: only the RoIs' own 0.5 is fixed."""
    truth = truth_of(examples[0], CPU)
    x1, y1, x2, y2 = truth.boxes[0].tolist()
    shares = (1.0, 0.72, 0.68, 0.52, 0.48, 0.32, 0.28, 0.05)  # IoUs with the first object
    anchors = torch.tensor([[x1, y1, x2, y1 + share * (y2 - y1)] for share in shares])
    for high, low in ((0.7, 0.3), (0.5, 0.1)):
        params = dataclasses.replace(PARAMS, fg_iou_thresh=high, bg_iou_thresh=low, samples=40)
        only_first = dataclasses.replace(truth, boxes=truth.boxes[:1], labels=truth.labels[:1])
        drawn = module.image_targets((anchors, anchors[:0]), only_first, CONTENT, params).anchors
        expected = [i for i, share in enumerate(shares) if share > high], [i for i, s in enumerate(shares) if s < low]
        assert (drawn.indices[: drawn.positives].tolist(), drawn.indices[drawn.positives :].tolist()) == expected


def test_rois_are_objects_from_an_iou_of_one_half_on(examples: list[Example], monkeypatch: pytest.MonkeyPatch) -> None:
    truth = truth_of(examples[0], CPU)
    only_first = dataclasses.replace(truth, boxes=truth.boxes[:1], labels=truth.labels[:1])
    x1, y1, x2, y2 = truth.boxes[0].tolist()
    candidates = torch.tensor([[x1, y1, x2, y1 + share * (y2 - y1)] for share in (0.48, 0.52, 0.42)])  # their IoUs
    monkeypatch.setattr(module, "roi_candidates", lambda *_: candidates)
    drawn = module.image_targets((candidates, candidates), only_first, CONTENT, PARAMS)
    assert drawn.roi_positives == 1
    assert torch.equal(drawn.rois, candidates[[1, 0, 2]])
    assert drawn.roi_labels.tolist() == [int(truth.labels[0]), 0, 0]


def test_rois_stay_in_the_picture(learner: Learner, examples: list[Example], spied: list[ImageTargets]) -> None:
    torch.manual_seed(4)
    losses(learner, examples[:3], CONTENT, dataclasses.replace(PARAMS, rois=100))
    boxes = torch.cat([image.rois for image in spied])
    assert (boxes[:, :2] >= torch.tensor(CONTENT[:2])).all()
    assert (boxes[:, 2:] <= torch.tensor(CONTENT[2:])).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) >= module.SMALLEST_ROI).all()


def test_crowds_teach_nothing(learner: Learner, examples: list[Example], spied: list[ImageTargets]) -> None:
    example = next(with_crowd(example) for example in examples if len(example.labels) > 1)
    torch.manual_seed(5)
    losses(learner, [example], CONTENT, dataclasses.replace(PARAMS, samples=4000, rois=400))
    truth, image = truth_of(example, CPU), spied[0]
    assert (len(truth.boxes), len(truth.crowd)) == (1, len(example.labels) - 1)
    inside = image.rois[image.roi_positives :]
    low = torch.maximum(inside[:, None, :2], truth.crowd[None, :, :2])
    high = torch.minimum(inside[:, None, 2:], truth.crowd[None, :, 2:])
    area = (inside[:, 2:] - inside[:, :2]).prod(1)
    assert ((high - low).clamp(min=0).prod(2).amax(1) <= 0.5 * area).all()


def test_without_rois_only_the_rpn_learns(learner: Learner, examples: list[Example]) -> None:
    terms = losses(learner, examples[:1], CONTENT, dataclasses.replace(PARAMS, rois=0))
    assert set(terms) == {"objectness", "regression"}
    assert all(value.isfinite() for value in terms.values())


def test_images_without_objects_alone(learner: Learner, examples: list[Example]) -> None:
    terms = losses(learner, [without_objects(example) for example in examples[:2]], CONTENT, PARAMS)
    assert set(terms) == {"objectness", "regression", "classification", "refinement"}
    assert float(terms["regression"].detach()) == float(terms["refinement"].detach()) == 0
    total(terms).backward()
    learner.zero_grad()


def test_draws_come_from_the_global_generator(learner: Learner, examples: list[Example]) -> None:
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append({name: float(value) for name, value in losses(learner, examples[:1], CONTENT, PARAMS).items()})
    assert values[0] == values[1] != values[2]


def test_mixed_precision_gives_float32_losses_close_to_the_exact_ones(
    learner: Learner, examples: list[Example], spied: list[ImageTargets]
) -> None:
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(learner, examples[:1], CONTENT, PARAMS)
    expected = dense_losses(learner, examples[:1], spied)
    assert {value.dtype for value in found.values()} == {torch.float32}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0.15, atol=0.05)
    learner.zero_grad()
    total(found).backward()
    assert all(p.grad.isfinite().all() for p in learner.parameters() if p.grad is not None)
    learner.zero_grad()

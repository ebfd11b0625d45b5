"""What the detector learns: losses equal to those on dense maps, from anchors and RoIs drawn as the params say."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from src.core.params import RoisParams
from src.data.prepared import Example, PreparedFile
from src.detector import mask_rcnn
from src.detector.backbones import set_trainable_layers
from src.detector.box_head import decode_scaled
from src.detector.mask_rcnn import PROPOSALS, MaskRCNN, Samples
from src.detector.roi_heads import RoiHeads
from src.detector.rpn import RegionProposalNetwork
from src.detector.sampling import SMALLEST_ROI, LossRules, roi_candidates
from src.ops.boxes import box_iou, decode
from src.structures.loss_term import values
from tests.detector.dense import (
    BACKBONE,
    BATCH,
    GRIDS,
    REGION,
    RPN_TERMS,
    TERMS,
    dense_losses,
    draw_densely,
    in_joint_training,
    losses,
    small_detector,
    total,
)
from tests.detector.small import TORCHVISION_PROPOSALS, with_objects, with_params, without_objects
from tests.factories import make_prepared


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Example]]:
    with PreparedFile(make_prepared(tmp_path_factory.mktemp("backbone"), 6)) as prepared:
        assert prepared.letterbox(0).region == REGION
        yield [prepared.example(index) for index in range(6)]


@pytest.fixture(scope="module")
def detector() -> MaskRCNN:
    return small_detector()


def with_backbone(detector: MaskRCNN, **changes: Any) -> MaskRCNN:
    """The same networks with other values in the section `backbone`."""
    return with_params(detector, backbone=dataclasses.replace(BACKBONE, **changes))


def without_masks(detector: MaskRCNN) -> MaskRCNN:
    """The detector as it is fine-tuned: with a box head alone."""
    return MaskRCNN(detector.backbone, detector.rpn, RoiHeads(detector.roi_heads.box_head), detector.params)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Samples]:
    """What `losses` has drawn, image after image."""
    kept: list[Samples] = []

    def keep(*parts: Any) -> Samples:
        kept.append(Samples(*parts))
        return kept[-1]

    monkeypatch.setattr(mask_rcnn, "Samples", keep)
    return kept


@pytest.mark.parametrize("kind", ["with masks", "without masks", "joint"])
def test_losses_and_gradients_are_those_of_dense_maps(detector: MaskRCNN, examples: list[Example], kind: str) -> None:
    net = without_masks(detector) if kind == "without masks" else detector
    if kind == "joint":
        net = in_joint_training(net, box_batch_size_per_image=40, mask_batch_size_per_image=3, finest_level=2)
    set_trainable_layers(net.backbone.body, 2)
    batch = [examples[0], without_objects(examples[1]), examples[2]]
    found = losses(net, batch)
    expected = dense_losses(net, batch, draw_densely(net, batch, joint=kind == "joint"))
    assert list(found) == list(expected) == (TERMS[:4] if kind == "without masks" else TERMS)
    for name, value in expected.items():
        assert value > 0, name
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    ours, dense = (torch.autograd.grad(total(terms), parameters, retain_graph=True) for terms in (found, expected))
    for gradient, wanted in zip(ours, dense, strict=True):
        assert (gradient - wanted).norm() <= 1e-3 * wanted.norm() + 1e-6


@pytest.mark.parametrize("term", TERMS)
def test_every_term_teaches_the_backbone_what_the_dense_one_does(
    detector: MaskRCNN, examples: list[Example], term: str
) -> None:
    """One by one, so that no large gradient hides a small one."""
    set_trainable_layers(detector.backbone.body, 1)
    found = losses(detector, examples[:1])
    expected = dense_losses(detector, examples[:1], draw_densely(detector, examples[:1]))
    parameters = [one for one in detector.backbone.parameters() if one.requires_grad]
    ours, dense = (torch.autograd.grad(terms[term], parameters, allow_unused=True) for terms in (found, expected))
    pairs = [pair for pair in zip(ours, dense, strict=True) if pair[1] is not None]
    assert len(pairs) > 8
    assert any(wanted.norm() > 0 for _, wanted in pairs)
    for gradient, wanted in pairs:
        assert (gradient - wanted).norm() <= 1e-3 * wanted.norm() + 1e-7


def test_forward_is_losses(detector: MaskRCNN, examples: list[Example]) -> None:
    expected = losses(detector, examples[:2])
    torch.manual_seed(3)
    terms = detector(*BATCH(examples[:2]))
    found = values(terms)
    assert list(found) == TERMS
    assert [terms[name].count for name in RPN_TERMS] == [2, 2]
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("sections", "proposals"),
    [
        ({}, PROPOSALS),
        ({}, 3),
        ({"backbone": dataclasses.replace(BACKBONE, fg_iou_thresh=0.4, bg_iou_thresh=0.1)}, PROPOSALS),
        (
            {"backbone": dataclasses.replace(BACKBONE, rpn_batch_size_per_image=60, box_batch_size_per_image=5)},
            PROPOSALS,
        ),
        ({"rois": RoisParams(0.7, 0.5)}, PROPOSALS),
    ],
)
def test_draws_are_those_of_the_seed_and_the_params(
    detector: MaskRCNN,
    examples: list[Example],
    drawn: list[Samples],
    monkeypatch: pytest.MonkeyPatch,
    sections: dict[str, Any],
    proposals: int,
) -> None:
    """Anchors and RoIs of one image after another, from torch's global generator: a resumed training repeats them."""
    monkeypatch.setattr(mask_rcnn, "PROPOSALS", proposals)
    net = with_params(detector, **sections)
    losses(net, examples[:2])
    for found, expected in zip(drawn, draw_densely(net, examples[:2], proposals=proposals), strict=True):
        assert torch.equal(found.anchors.indices, expected.anchors.indices)
        assert torch.equal(found.anchors.deltas, expected.anchors.deltas)
        assert torch.equal(found.rois.boxes, expected.rois.boxes)
        assert torch.equal(found.rois.labels, expected.rois.labels)
        assert torch.equal(found.masks, expected.masks)


@pytest.mark.parametrize(
    ("rois", "masks", "finest"),
    [(40, 2, 4), (40, 2, 2), (24, 3, 5), (8, 100, 3)],
)
def test_joint_training_draws_what_its_own_params_say(
    detector: MaskRCNN, examples: list[Example], drawn: list[Samples], rois: int, masks: int, finest: int
) -> None:
    net = in_joint_training(
        detector, box_batch_size_per_image=rois, mask_batch_size_per_image=masks, finest_level=finest
    )
    losses(net, examples[:2])
    for found, expected in zip(drawn, draw_densely(net, examples[:2], joint=True), strict=True):
        assert len(found.rois.boxes) == rois
        assert 0 < len(found.masks) == min(masks, len(found.rois.truth))
        assert torch.equal(found.anchors.indices, expected.anchors.indices)
        assert torch.equal(found.rois.boxes, expected.rois.boxes)
        assert torch.equal(found.masks, expected.masks)


def test_masks_are_learned_from_any_of_the_positives(
    detector: MaskRCNN, examples: list[Example], drawn: list[Samples]
) -> None:
    """Not from the first ones, which are the least jittered."""
    net = in_joint_training(detector, box_batch_size_per_image=100, mask_batch_size_per_image=3)
    for seed in range(25):
        losses(net, examples[:1], seed)
    places, first, learned, every = [], [], [], []
    for samples in drawn:
        count = len(samples.rois.truth)
        assert len(samples.masks) == len(samples.masks.unique()) == 3
        assert count > 20
        overlaps = box_iou(examples[0].target.boxes, samples.rois.boxes[:count]).amax(0)
        places.append(samples.masks / (count - 1))
        first.append(overlaps[:3])
        learned.append(overlaps[samples.masks])
        every.append(overlaps)
    assert torch.cat(places).mean().item() == pytest.approx(0.5, abs=0.08)
    assert (torch.cat(places).min(), torch.cat(places).max()) == (0, 1)
    assert torch.cat(learned).mean().item() == pytest.approx(torch.cat(every).mean().item(), abs=0.02)
    assert torch.cat(first).mean() > torch.cat(every).mean() + 0.1


@pytest.mark.parametrize("finest", [2, 3, 4, 5])
def test_proposals_come_from_the_pyramid_s_levels_that_the_params_name(
    detector: MaskRCNN, examples: list[Example], monkeypatch: pytest.MonkeyPatch, finest: int
) -> None:
    """From level 2 on they are what detection begins with."""
    given: list[torch.Tensor] = []

    def noting(proposals: torch.Tensor, *rest: Any) -> torch.Tensor:
        given.append(proposals)
        return roi_candidates(proposals, *rest)

    monkeypatch.setattr(mask_rcnn, "roi_candidates", noting)
    images, _ = BATCH(examples[:2])
    losses(in_joint_training(detector, finest_level=finest), examples[:2])
    with torch.no_grad():
        levels = detector.backbone(images.tensors)
        expected = [found.boxes[:PROPOSALS] for found in detector.rpn(images, levels[finest - 2 :])]
        everywhere = [found.boxes[:PROPOSALS] for found in detector.rpn(images, levels)]
    assert all(len(boxes) > 10 for boxes in given)
    assert all(torch.equal(found, boxes) for found, boxes in zip(given, expected, strict=True))
    assert [torch.equal(found, boxes) for found, boxes in zip(given, everywhere, strict=True)] == [finest == 2] * 2


def test_the_mask_loss_teaches_what_the_box_head_sees(detector: MaskRCNN, examples: list[Example]) -> None:
    """Through the FPN: above it they share no layer."""
    net = in_joint_training(copy.deepcopy(detector))
    images, (target,) = BATCH(examples[:1])

    @torch.no_grad()
    def box_outputs() -> torch.Tensor:
        return net.roi_heads.classify(net.backbone(images.tensors), [target.boxes])[0]

    mask = losses(net, examples[:1])["mask"]
    own = torch.autograd.grad(mask, list(net.roi_heads.box_head.parameters()), retain_graph=True, allow_unused=True)
    assert set(own) == {None}
    before = box_outputs()
    mask.backward()
    for parameter in net.backbone.fpn.parameters():
        if parameter.grad is not None:
            parameter.data -= parameter.grad
    assert (box_outputs() - before).abs().max() > 1e-3


def test_fine_tuning_is_what_is_learned_where_nothing_else_is_said(detector: MaskRCNN) -> None:
    assert detector.rules == LossRules.for_fine_tuning(detector.params)
    assert in_joint_training(detector).rules != detector.rules


def test_targets_are_what_the_boxes_say(detector: MaskRCNN, examples: list[Example], drawn: list[Samples]) -> None:
    losses(detector, examples[:1])
    (samples,), target = drawn, examples[0].target
    anchor_samples, rois = samples.anchors, samples.rois
    anchors = torch.cat(detector.rpn.anchors((96, 160), GRIDS))
    positive = anchors[anchor_samples.indices[: anchor_samples.positives]]
    assert len(positive) > 0
    moved = decode(anchor_samples.deltas, positive)
    nearest = box_iou(target.boxes, positive).argmax(0)
    torch.testing.assert_close(moved, target.boxes[nearest], rtol=1e-3, atol=0.05)
    assert len(rois.boxes) <= BACKBONE.box_batch_size_per_image
    overlap = box_iou(target.boxes, rois.boxes)
    count = len(rois.truth)
    assert 0 < count <= BACKBONE.box_batch_size_per_image // 4
    assert (overlap[:, :count].amax(0) >= 0.5).all()
    assert (overlap[:, count:].amax(0) < 0.5).all()
    assert torch.equal(rois.truth, overlap[:, :count].argmax(0))
    assert torch.equal(rois.labels[:count], target.labels[rois.truth])
    assert (rois.labels[count:] == 0).all()
    refined = decode_scaled(rois.deltas, rois.boxes[:count])[:, 0]
    torch.testing.assert_close(refined, target.boxes[rois.truth], rtol=1e-3, atol=0.05)


def test_rois_stay_in_the_picture(detector: MaskRCNN, examples: list[Example], drawn: list[Samples]) -> None:
    losses(with_backbone(detector, box_batch_size_per_image=100), examples[:3], seed=4)
    boxes = torch.cat([image.rois.boxes for image in drawn])
    assert len(boxes) > 100
    assert (boxes[:, :2] >= torch.tensor(REGION[:2])).all()
    assert (boxes[:, 2:] <= torch.tensor(REGION[2:])).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) >= SMALLEST_ROI).all()


def test_crowds_teach_nothing(detector: MaskRCNN, examples: list[Example], drawn: list[Samples]) -> None:
    example = next(with_objects(example, 1) for example in examples if len(example.target.labels) > 1)
    net = with_backbone(detector, rpn_batch_size_per_image=4000, box_batch_size_per_image=400)
    losses(net, [example], seed=5)
    (crowd,), (samples,) = example.target.crowd, drawn
    rois, anchor_samples = samples.rois, samples.anchors
    anchors = torch.cat(detector.rpn.anchors((96, 160), GRIDS))
    for background in (rois.boxes[len(rois.truth) :], anchors[anchor_samples.indices[anchor_samples.positives :]]):
        assert len(background) > 20
        low, high = torch.maximum(background[:, :2], crowd[:2]), torch.minimum(background[:, 2:], crowd[2:])
        area = (background[:, 2:] - background[:, :2]).prod(1)
        assert ((high - low).clamp(min=0).prod(1) <= 0.5 * area).all()


@pytest.mark.parametrize("masks", [True, False])
def test_without_rois_only_the_rpn_learns(detector: MaskRCNN, examples: list[Example], masks: bool) -> None:
    net = with_backbone(detector if masks else without_masks(detector), box_batch_size_per_image=0)
    terms = losses(net, examples[:2])
    assert list(terms) == RPN_TERMS
    assert all(value.isfinite() for value in terms.values())
    total(terms).backward()
    assert all(parameter.grad is None for parameter in net.roi_heads.parameters())
    assert net.rpn.head.conv.weight.grad.norm() > 0
    net.zero_grad()


def test_without_rois_no_proposals_are_made(
    detector: MaskRCNN, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(detector.rpn, "forward", lambda *_: calls.append(1))
    losses(with_backbone(detector, box_batch_size_per_image=0), examples[:1])
    assert not calls


def test_images_without_objects_alone(detector: MaskRCNN, examples: list[Example]) -> None:
    terms = losses(detector, [without_objects(example) for example in examples[:2]])
    assert list(terms) == TERMS
    assert all(value.isfinite() for value in terms.values())
    assert [name for name, value in terms.items() if float(value.detach()) == 0] == [
        "rpn_regression",
        "box_regression",
        "mask",
    ]
    total(terms).backward()
    assert all(parameter.grad.isfinite().all() for parameter in detector.parameters() if parameter.grad is not None)
    detector.zero_grad()


def test_boxes_learn_without_masks_being_read(detector: MaskRCNN, examples: list[Example]) -> None:
    """Fine-tuning has no mask head, so its loader reads no masks."""
    net = without_masks(detector)
    bare = [
        dataclasses.replace(example, target=dataclasses.replace(example.target, masks=example.target.masks[:0]))
        for example in examples[:2]
    ]
    found, expected = losses(net, bare), losses(net, examples[:2])
    assert list(found) == TERMS[:4]
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_draws_come_from_the_global_generator(detector: MaskRCNN, examples: list[Example]) -> None:
    values = [
        {name: float(value.detach()) for name, value in losses(detector, examples[:1], seed).items()}
        for seed in (1, 1, 2)
    ]
    assert values[0] == values[1] != values[2]


def test_mixed_precision_gives_float32_losses_close_to_the_exact_ones(
    detector: MaskRCNN, examples: list[Example], drawn: list[Samples]
) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(detector, examples[:1])
    expected = dense_losses(detector, examples[:1], drawn)
    assert list(found) == list(expected)
    assert {value.dtype for value in found.values()} == {torch.float32}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0.15, atol=0.05)
    detector.zero_grad()
    total(found).backward()
    assert all(parameter.grad.isfinite().all() for parameter in detector.parameters() if parameter.grad is not None)
    detector.zero_grad()


def test_an_image_without_a_single_roi_loses_nothing_in_the_heads(detector: MaskRCNN, examples: list[Example]) -> None:
    """No object and no proposal: all terms stand, so that a history has its columns, and their gradient is 0."""
    nothing = dataclasses.replace(TORCHVISION_PROPOSALS, min_size=1e6)
    rpn = RegionProposalNetwork(BACKBONE.anchor_sizes, BACKBONE.anchor_ratios, nothing)
    rpn.load_state_dict(detector.rpn.state_dict())
    alone = MaskRCNN(detector.backbone, rpn, detector.roi_heads, detector.params)
    terms = losses(alone, [without_objects(examples[0])])
    assert sorted(terms) == sorted(TERMS)
    assert [float(terms[name].detach()) for name in ("rpn_regression", "classification", "box_regression", "mask")] == [
        0.0
    ] * 4
    total(terms).backward()
    assert all(part.grad is None or not part.grad.any() for part in detector.roi_heads.parameters())
    detector.zero_grad()

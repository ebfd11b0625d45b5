"""What the detector learns: losses equal to those on dense maps, from anchors and RoIs drawn as the params say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from src.core.params import RoisParams
from src.data.batches import Batcher
from src.data.prepared import Example, PreparedFile
from src.detector import box_head, mask_head, mask_rcnn
from src.detector.backbones import LITE0, set_trainable_layers
from src.detector.box_head import BoxHead, decode_scaled
from src.detector.fpn import STRIDES
from src.detector.mask_head import MaskHead
from src.detector.mask_rcnn import PROPOSALS, MaskRCNN, Samples
from src.detector.roi_heads import RoiHeads
from src.detector.sampling import (
    SMALLEST_ROI,
    AnchorRules,
    AnchorSamples,
    RoiRules,
    RoiSamples,
    roi_candidates,
    sample_anchors,
    sample_rois,
)
from src.detector.weights import build
from src.ops.boxes import box_iou, decode
from src.ops.losses import class_loss, delta_loss, mask_loss, objectness_loss
from src.ops.masks import mask_targets
from src.ops.roi_align import multiscale_roi_align
from src.structures.classes import NUM_CLASSES
from tests.detector.small import (
    CPU,
    TORCHVISION_PROPOSALS,
    backbone_params,
    params,
    randomize,
    with_objects,
    with_params,
    without_objects,
)
from tests.factories import make_prepared

REGION = (16.0, 0.0, 144.0, 96.0)  # of the factories' small canvas
GRIDS = [(24, 40), (12, 20), (6, 10), (3, 5), (2, 3)]
BACKBONE = backbone_params(
    name="efficientnet_lite0", weights="imagenet", rpn_batch_size_per_image=24, box_batch_size_per_image=12
)
PARAMS = params(backbone=BACKBONE, proposals=TORCHVISION_PROPOSALS, rois=RoisParams(0.5, 0.25))
RPN_TERMS = ["objectness", "rpn_regression"]
TERMS = [*RPN_TERMS, "classification", "box_regression", "mask"]
BATCH = Batcher(LITE0, REGION, CPU)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Example]]:
    with PreparedFile(make_prepared(tmp_path_factory.mktemp("backbone"), 6)) as prepared:
        assert prepared.letterbox.region == REGION
        yield [prepared.example(index) for index in range(6)]


@pytest.fixture(scope="module")
def detector() -> MaskRCNN:
    torch.manual_seed(0)
    heads = RoiHeads(BoxHead(NUM_CLASSES, representation_size=32), MaskHead(NUM_CLASSES, channels=8))
    net = MaskRCNN(*build(BACKBONE, TORCHVISION_PROPOSALS), heads, PARAMS)
    randomize(net.rpn.parameters(), 1, 0.02)
    randomize(heads.box_head.parameters(), 2, 0.02)
    randomize(heads.mask_head.parameters(), 3, 0.05)
    return net


def with_backbone(detector: MaskRCNN, **changes: Any) -> MaskRCNN:
    """The same networks with other values in the section `backbone`."""
    return with_params(detector, backbone=dataclasses.replace(BACKBONE, **changes))


def without_masks(detector: MaskRCNN) -> MaskRCNN:
    """The detector as it is fine-tuned: with a box head alone."""
    return MaskRCNN(detector.backbone, detector.rpn, RoiHeads(detector.roi_heads.box_head), detector.params)


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What `losses` has drawn, one entry per image."""

    anchors: list[AnchorSamples]
    rois: list[RoiSamples]

    def samples(self) -> list[Samples]:
        return [Samples(*image) for image in zip(self.anchors, self.rois, strict=True)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    kept = Drawn([], [])

    def keep(results: list[Any], original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any) -> Any:
            results.append(original(*args))
            return results[-1]

        return wrapper

    monkeypatch.setattr(mask_rcnn, "sample_anchors", keep(kept.anchors, sample_anchors))
    monkeypatch.setattr(mask_rcnn, "sample_rois", keep(kept.rois, sample_rois))
    return kept


def losses(detector: MaskRCNN, examples: Sequence[Example], seed: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return detector.losses(*BATCH(examples))


def total(terms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


@torch.no_grad()
def draw_densely(
    detector: MaskRCNN, examples: Sequence[Example], seed: int = 3, proposals: int = PROPOSALS
) -> list[Samples]:
    """What `losses` is to draw with this seed: anchors, then RoIs, one image after another."""
    torch.manual_seed(seed)
    images, targets = BATCH(examples)
    settings, draw = detector.params, torch.default_generator
    anchors = torch.cat(detector.rpn.anchors((96, 160), GRIDS))
    proposed = detector.rpn(images, detector.backbone(images.tensors)[2:])  # from P4 on
    samples = []
    for target, region, found in zip(targets, images.regions, proposed, strict=True):
        some = sample_anchors(anchors, target, AnchorRules.from_params(settings.backbone), draw)
        candidates = roi_candidates(found.boxes[:proposals], target, region, draw)
        rules = RoiRules.from_params(settings.rois, settings.backbone.box_batch_size_per_image)
        samples.append(Samples(some, sample_rois(candidates, target, rules, draw)))
    return samples


def dense_losses(detector: MaskRCNN, examples: Sequence[Example], samples: Sequence[Samples]) -> dict[str, Tensor]:
    """The losses of these samples from dense feature maps."""
    images, targets = BATCH(examples)
    levels = detector.backbone(images.tensors)
    logits, deltas = detector.rpn.predict(levels)
    objectness, regression = [], []
    for i, image in enumerate(samples):
        chosen, positives = image.anchors.indices, image.anchors.positives
        objectness.append(objectness_loss(logits[i, chosen], positives))
        regression.append(delta_loss(deltas[i, chosen[:positives]], image.anchors.deltas, len(chosen)))
    rois = [image.rois for image in samples]
    labels = torch.cat([image.labels for image in rois])
    rows = labels.nonzero().squeeze(1)
    heads = detector.roi_heads
    class_logits, class_deltas = heads.box_head(pool_densely(levels, [image.boxes for image in rois], box_head.SIZE))
    own_deltas = class_deltas.reshape(len(labels), -1, 4)[rows, labels[rows]]
    terms = {
        "objectness": torch.stack(objectness).mean(),
        "rpn_regression": torch.stack(regression).mean(),
        "classification": class_loss(class_logits, labels),
        "box_regression": delta_loss(own_deltas, torch.cat([image.deltas for image in rois]), len(labels)),
    }
    if heads.mask_head is None:
        return terms
    positive = [image.boxes[: len(image.truth)] for image in rois]
    masks = heads.mask_head(pool_densely(levels, positive, mask_head.SIZE))
    own_masks = torch.stack([mask[label] for mask, label in zip(masks, labels[rows], strict=True)])
    wanted = [
        mask_targets(target.masks, boxes, image.truth, 28)
        for target, boxes, image in zip(targets, positive, rois, strict=True)
    ]
    return terms | {"mask": mask_loss(own_masks, torch.cat(wanted))}


def pool_densely(levels: Sequence[Tensor], boxes: Sequence[Tensor], size: int) -> Tensor:
    rois = torch.cat([torch.nn.functional.pad(image, (1, 0), value=i) for i, image in enumerate(boxes)])
    return multiscale_roi_align(levels[:4], rois, size, STRIDES)


@pytest.mark.parametrize("masks", [True, False])
def test_losses_and_gradients_are_those_of_dense_maps(detector: MaskRCNN, examples: list[Example], masks: bool) -> None:
    net = detector if masks else without_masks(detector)
    set_trainable_layers(net.backbone.body, 2)
    batch = [examples[0], without_objects(examples[1]), examples[2]]
    found = losses(net, batch)
    expected = dense_losses(net, batch, draw_densely(net, batch))
    assert list(found) == list(expected) == (TERMS if masks else TERMS[:4])
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
    found = detector(*BATCH(examples[:2]))
    assert list(found) == TERMS
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
    drawn: Drawn,
    monkeypatch: pytest.MonkeyPatch,
    sections: dict[str, Any],
    proposals: int,
) -> None:
    """Anchors and RoIs of one image after another, from torch's global generator: a resumed training repeats them."""
    monkeypatch.setattr(mask_rcnn, "PROPOSALS", proposals)
    net = with_params(detector, **sections)
    losses(net, examples[:2])
    for found, expected in zip(drawn.samples(), draw_densely(net, examples[:2], proposals=proposals), strict=True):
        assert torch.equal(found.anchors.indices, expected.anchors.indices)
        assert torch.equal(found.anchors.deltas, expected.anchors.deltas)
        assert torch.equal(found.rois.boxes, expected.rois.boxes)
        assert torch.equal(found.rois.labels, expected.rois.labels)


def test_targets_are_what_the_boxes_say(detector: MaskRCNN, examples: list[Example], drawn: Drawn) -> None:
    losses(detector, examples[:1])
    (anchor_samples,), (rois,), target = drawn.anchors, drawn.rois, examples[0].target
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
    refined = decode_scaled(rois.deltas, rois.positive)[:, 0]
    torch.testing.assert_close(refined, target.boxes[rois.truth], rtol=1e-3, atol=0.05)


def test_rois_stay_in_the_picture(detector: MaskRCNN, examples: list[Example], drawn: Drawn) -> None:
    losses(with_backbone(detector, box_batch_size_per_image=100), examples[:3], seed=4)
    boxes = torch.cat([image.boxes for image in drawn.rois])
    assert len(boxes) > 100
    assert (boxes[:, :2] >= torch.tensor(REGION[:2])).all()
    assert (boxes[:, 2:] <= torch.tensor(REGION[2:])).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) >= SMALLEST_ROI).all()


def test_crowds_teach_nothing(detector: MaskRCNN, examples: list[Example], drawn: Drawn) -> None:
    example = next(with_objects(example, 1) for example in examples if len(example.target.labels) > 1)
    net = with_backbone(detector, rpn_batch_size_per_image=4000, box_batch_size_per_image=400)
    losses(net, [example], seed=5)
    (crowd,), (rois,), (anchor_samples,) = example.target.crowd, drawn.rois, drawn.anchors
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
    detector: MaskRCNN, examples: list[Example], drawn: Drawn
) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(detector, examples[:1])
    expected = dense_losses(detector, examples[:1], drawn.samples())
    assert list(found) == list(expected)
    assert {value.dtype for value in found.values()} == {torch.float32}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0.15, atol=0.05)
    detector.zero_grad()
    total(found).backward()
    assert all(parameter.grad.isfinite().all() for parameter in detector.parameters() if parameter.grad is not None)
    detector.zero_grad()

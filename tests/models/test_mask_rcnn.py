"""The assembled detector: post-processing by hand and by loops, and the whole against torchvision's."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList as TorchvisionImageList

from src.models import mask_rcnn
from src.models.box_head import BoxHead, decode_scaled
from src.models.image_list import ImageList
from src.models.mask_head import MaskHead
from src.models.mask_rcnn import MaskRCNN, postprocess, with_image_index
from src.models.rpn import Proposals
from src.models.weights import assemble, load_states, load_strictly, rename
from src.ops.boxes import box_iou
from src.ops.roi_align import multiscale_roi_align
from src.params import EvaluateParams
from tests.models.small import (
    CANVAS,
    CONTENT,
    TORCHVISION_PROPOSALS,
    backbone_params,
    course_checkpoint,
    evaluate_params,
    normalise_scale,
    torchvision_detector,
)

PICTURE = torch.tensor([10.0, 0.0, 90.0, 60.0])


def logits_of(*rows: tuple[float, float, float, float]) -> Tensor:
    """Logits whose softmax is the rows."""
    return torch.tensor(rows).clamp(min=1e-9).log().reshape(-1, 4)


def still(count: int) -> Tensor:
    """Deltas that leave every box as it is."""
    return torch.zeros(count, 16)


def test_a_case_by_hand() -> None:
    proposals = torch.tensor([[20.0, 10, 40, 30], [21, 10, 41, 30], [60, 20, 80, 50], [20, 10, 40, 30]])
    logits = logits_of((0.1, 0.8, 0.06, 0.04), (0.3, 0.7, 0, 0), (0.96, 0, 0, 0.04), (0.1, 0, 0.3, 0.6))
    found = postprocess(logits, still(4), proposals, PICTURE, evaluate_params(score_threshold=0.05))
    # The second box falls to the first of its class; two classes at the same place both stay; 0.04 is not above the
    # threshold; class 2 of the first proposal falls to the fourth's.
    assert found.labels.tolist() == [1, 3, 2]
    assert found.scores.tolist() == pytest.approx([0.8, 0.6, 0.3])
    assert torch.equal(found.boxes, proposals[[0, 3, 3]])
    assert torch.equal(found.proposals, proposals[[0, 3, 3]])
    assert found.masks.shape == (3, 0, 0)


def test_each_class_has_its_own_deltas() -> None:
    proposals = torch.tensor([[20.0, 10, 40, 30]])
    deltas = still(1)
    deltas[0, 4 * 2] = 10.0  # class 2: one width to the right, the scale being 10
    deltas[0, 0] = 99.0  # the background's are never used
    found = postprocess(logits_of((0, 0.5, 0.5, 0)), deltas, proposals, PICTURE, evaluate_params())
    boxes = dict(zip(found.labels.tolist(), found.boxes.tolist(), strict=True))
    assert boxes[1] == pytest.approx([20, 10, 40, 30])
    assert boxes[2] == pytest.approx([40, 10, 60, 30])
    assert torch.equal(found.proposals, proposals.expand(2, 4))


def test_boxes_across_the_border_are_removed_or_clipped() -> None:
    proposals = torch.tensor([[20.0, 10, 40, 30], [5, 10, 40, 50], [60, 20, 95, 50], [12, 40, 30, 60]])
    logits = logits_of((0, 0.9, 0, 0.1), (0.2, 0, 0.8, 0), (0.3, 0.7, 0, 0), (0.4, 0, 0, 0.6))
    remove = postprocess(logits, still(4), proposals, PICTURE, evaluate_params(border="remove", score_threshold=0.2))
    clip = postprocess(logits, still(4), proposals, PICTURE, evaluate_params(border="clip", score_threshold=0.2))
    assert remove.boxes.tolist() == [[20, 10, 40, 30], [12, 40, 30, 60]]
    assert clip.boxes.tolist() == [[20, 10, 40, 30], [10, 10, 40, 50], [60, 20, 90, 50], [12, 40, 30, 60]]
    assert torch.equal(clip.proposals, proposals)


def test_boxes_outside_or_thin_are_dropped_even_when_clipped() -> None:
    proposals = torch.tensor([[0.0, 0, 9, 9], [20, 10, 20.5, 30], [30, 30, 40, 40]])
    found = postprocess(
        logits_of(*[(0, 0.9, 0.1, 0)] * 3), still(3), proposals, PICTURE, evaluate_params(border="clip")
    )
    assert set(map(tuple, found.boxes.tolist())) == {(30.0, 30.0, 40.0, 40.0)}


def test_only_the_best_are_kept() -> None:
    proposals = torch.tensor([[12.0 + 5 * i, 10, 16 + 5 * i, 14] for i in range(10)])
    scores = [0.3 + 0.05 * i for i in range(10)]
    logits = logits_of(*[(1 - score, 0, score, 0) for score in scores])
    found = postprocess(logits, still(10), proposals, PICTURE, evaluate_params(detections=3))
    assert found.scores.tolist() == pytest.approx([0.75, 0.7, 0.65])
    assert found.boxes[:, 0].tolist() == [57, 52, 47]


@pytest.mark.parametrize("threshold", [0.05, 1.0])
def test_nothing_in_and_nothing_above_the_threshold(threshold: float) -> None:
    count = 0 if threshold < 1 else 3
    proposals = torch.tensor([[20.0, 10, 40, 30]] * 3)[:count]
    rules = evaluate_params(score_threshold=threshold)
    found = postprocess(torch.zeros(count, 4), still(count), proposals, PICTURE, rules)
    assert found.boxes.shape == found.proposals.shape == (0, 4)
    assert found.labels.shape == found.scores.shape == (0,)


def plain_postprocess(
    logits: Tensor, deltas: Tensor, proposals: Tensor, content: Tensor, params: EvaluateParams
) -> list[tuple[float, int, list[float]]]:
    """Task 15 in plain loops: score, label, box, best first."""
    x1, y1, x2, y2 = content.tolist()
    candidates = []
    for row, (probabilities, boxes) in enumerate(
        zip(logits.softmax(1).tolist(), decode_scaled(deltas, proposals).tolist(), strict=True)
    ):
        for label in (1, 2, 3):
            a, b, c, d = boxes[label]
            if params.border == "clip":
                a, b, c, d = max(a, x1), max(b, y1), min(c, x2), min(d, y2)
            across = a < x1 or b < y1 or c > x2 or d > y2
            if probabilities[label] > params.score_threshold and not across and c - a >= 1 and d - b >= 1:
                candidates.append((probabilities[label], label, [a, b, c, d], row))
    kept: list[tuple[float, int, list[float]]] = []
    for score, label, box, _ in sorted(candidates, key=lambda entry: -entry[0]):
        rivals = [other for _, kind, other in kept if kind == label]
        if not rivals or float(box_iou(torch.tensor([box]), torch.tensor(rivals)).max()) <= params.nms_iou:
            kept.append((score, label, box))
    return kept[: params.detections]


@given(
    count=st.integers(0, 25),
    seed=st.integers(0, 2**20),
    border=st.sampled_from(["remove", "clip"]),
    threshold=st.sampled_from([0.0, 0.2, 0.5]),
    detections=st.integers(1, 30),
)
def test_it_is_the_plain_loops(count: int, seed: int, border: str, threshold: float, detections: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=draw) * torch.tensor([100.0, 60.0])
    proposals = torch.cat([low, low + 1 + 30 * torch.rand(count, 2, generator=draw)], 1)
    logits, deltas = 2 * torch.randn(count, 4, generator=draw), torch.randn(count, 16, generator=draw)
    rules = evaluate_params(border=border, score_threshold=threshold, detections=detections)
    found = postprocess(logits, deltas, proposals, PICTURE, rules)
    expected = plain_postprocess(logits, deltas, proposals, PICTURE, rules)
    assert found.labels.tolist() == [label for _, label, _ in expected]
    assert found.scores.tolist() == pytest.approx([score for score, _, _ in expected], abs=1e-6)
    torch.testing.assert_close(
        found.boxes, torch.tensor([box for *_, box in expected]).reshape(-1, 4), rtol=1e-4, atol=1e-3
    )


def test_image_numbers_stand_before_the_boxes() -> None:
    found = with_image_index([torch.ones(2, 4), torch.zeros(0, 4), torch.full((1, 4), 5.0)])
    assert found.tolist() == [[0, 1, 1, 1, 1], [0, 1, 1, 1, 1], [2, 5, 5, 5, 5]]


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """torchvision's detector, its heads made decided enough that detections pass the threshold."""
    model = torchvision_detector(1)
    with torch.no_grad():
        normalise_scale(model, pictures())
        model.roi_heads.box_predictor.cls_score.weight *= 10
        model.roi_heads.box_predictor.bbox_pred.weight *= 5
    return model


def pictures() -> Tensor:
    return torch.randn(2, 3, *CANVAS, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def ours(theirs: nn.Module) -> MaskRCNN:
    """This project's detector with the same weights."""
    backbone, rpn = assemble(backbone_params(weights="coco"), TORCHVISION_PROPOSALS, pretrained=False)
    load_states(backbone, rpn, course_checkpoint(theirs), "torchvision")
    detector = MaskRCNN(backbone, rpn, BoxHead(), MaskHead(), 1000)
    state = rename(theirs.roi_heads.state_dict())
    for head, parts in (
        (detector.box_head, ("box_head", "box_predictor")),
        (detector.mask_head, ("mask_head", "mask_predictor")),
    ):
        named = {name.partition(".")[2]: value for name, value in state.items() if name.partition(".")[0] in parts}
        load_strictly(head, named, "torchvision")
    return detector.eval()


@pytest.fixture
def torchvision_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """RoIAlign without the half pixel, and torchvision's smallest box."""
    monkeypatch.setattr(mask_rcnn, "multiscale_roi_align", functools.partial(multiscale_roi_align, aligned=False))
    monkeypatch.setattr(mask_rcnn, "SMALLEST_SIDE", 1e-2)


@pytest.mark.usefixtures("torchvision_rules")
@torch.no_grad()
def test_detections_are_torchvision_s(ours: MaskRCNN, theirs: nn.Module) -> None:
    images = pictures()
    features = theirs.backbone(images)
    proposals, _ = theirs.rpn(TorchvisionImageList(images, [CANVAS] * 2), features)
    expected, _ = theirs.roi_heads(features, proposals, [CANVAS] * 2)
    found = ours(ImageList(images, torch.tensor([CONTENT] * 2)), evaluate_params(detections=100))
    for ours_of_image, theirs_of_image in zip(found, expected, strict=True):
        assert len(theirs_of_image["scores"]) > 20
        torch.testing.assert_close(ours_of_image.scores, theirs_of_image["scores"], rtol=1e-3, atol=1e-4)
        assert torch.equal(ours_of_image.labels, theirs_of_image["labels"])
        torch.testing.assert_close(ours_of_image.boxes, theirs_of_image["boxes"], rtol=1e-3, atol=0.05)
        torch.testing.assert_close(ours_of_image.masks, theirs_of_image["masks"][:, 0], rtol=1e-2, atol=1e-3)


@torch.no_grad()
def test_images_without_proposals_or_detections(ours: MaskRCNN) -> None:
    features = ours.backbone(pictures())
    nothing = Proposals(torch.zeros(0, 4), torch.zeros(0))
    one = Proposals(torch.tensor([[10.0, 10, 60, 60]]), torch.ones(1))
    contents = torch.tensor([CONTENT] * 2)
    for proposals in ([nothing, nothing], [nothing, one]):
        found = ours.detect(features, proposals, contents, evaluate_params(score_threshold=0.0))
        assert len(found[0].boxes) == 0
        assert found[0].masks.shape[0] == 0
        assert len(found[1].boxes) == len(found[1].masks)
    strict = ours.detect(features, [one, one], contents, evaluate_params(score_threshold=1.0))
    assert [len(image.masks) for image in strict] == [0, 0]


@torch.no_grad()
def test_an_image_s_detections_do_not_depend_on_its_batch(ours: MaskRCNN) -> None:
    images, contents = pictures(), torch.tensor([CONTENT] * 2)
    together = ours(ImageList(images, contents), evaluate_params())[1]
    alone = ours(ImageList(images[1:], contents[1:]), evaluate_params())[0]
    assert torch.equal(together.labels, alone.labels)
    torch.testing.assert_close(together.boxes, alone.boxes, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(together.masks, alone.masks, rtol=1e-3, atol=1e-4)

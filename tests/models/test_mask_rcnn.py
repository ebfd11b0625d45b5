"""The assembled detector: post-processing by hand and by loops, and the whole against torchvision's."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from src.models import mask_rcnn
from src.models.box_head import BoxHead, decode_scaled
from src.models.image_list import ImageList
from src.models.mask_head import MaskHead
from src.models.mask_rcnn import Detections, MaskRCNN, postprocess, with_image_index
from src.models.rpn import Proposals
from src.models.weights import build, load_strictly, read_states
from src.ops.boxes import box_iou
from src.ops.masks import mask_iou, paste_masks
from src.ops.roi_align import multiscale_roi_align
from src.params import EvaluateParams
from tests.models.small import (
    CANVAS,
    CONTENT,
    TORCHVISION_PROPOSALS,
    backbone_params,
    course_checkpoint,
    course_names,
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
    """torchvision's detector, its heads made decided enough that detections of every class pass the threshold."""
    model = torchvision_detector(1)
    predictor = model.roi_heads.box_predictor
    with torch.no_grad():
        normalise_scale(model, pictures())
        predictor.cls_score.weight *= 40
        predictor.bbox_pred.weight *= 5
        logits: list[Tensor] = []
        with predictor.cls_score.register_forward_hook(lambda *call: logits.append(call[2])):
            model(list(pictures()))
        predictor.cls_score.bias -= torch.cat(logits).mean(dim=0)
    return model


def pictures() -> Tensor:
    return torch.randn(2, 3, *CANVAS, generator=torch.Generator().manual_seed(5))


HEADS = {"box_head": ("box_head", "box_predictor"), "mask_head": ("mask_head", "mask_predictor")}


@pytest.fixture(scope="module")
def weights(theirs: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of torchvision's weights: the course's two parts, and the heads."""
    named = {tuple(name.split(".", 1)): value for name, value in course_names(theirs.roi_heads.state_dict()).items()}
    heads = {
        head: {name: value for (part, name), value in named.items() if part in parts} for head, parts in HEADS.items()
    }
    path = tmp_path_factory.mktemp("weights") / "torchvision.pth"
    torch.save(course_checkpoint(theirs) | heads, path)
    return path


@pytest.fixture(scope="module")
def ours(weights: Path) -> MaskRCNN:
    """This project's detector with the weights of the file."""
    backbone, rpn = build(backbone_params(weights=str(weights)), TORCHVISION_PROPOSALS)
    detector = MaskRCNN(backbone, rpn, BoxHead(), MaskHead(), 1000)
    for head, state in read_states(weights, tuple(HEADS)).items():
        load_strictly(getattr(detector, head), state, head)
    return detector.eval()


Pair = tuple[Detections, dict[str, Tensor]]


@pytest.fixture(scope="module")
@torch.no_grad()
def pairs(ours: MaskRCNN, theirs: nn.Module) -> list[Pair]:
    """What both find in two pictures, ours by torchvision's rules: clipping, its smallest box, no half pixel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_rcnn, "multiscale_roi_align", functools.partial(multiscale_roi_align, aligned=False))
        patch.setattr(mask_rcnn, "SMALLEST_SIDE", 1e-2)
        found = ours(ImageList(pictures(), torch.tensor([CONTENT] * 2)), evaluate_params(detections=100))
    return list(zip(found, theirs(list(pictures())), strict=True))


def test_detections_are_torchvision_s(pairs: list[Pair]) -> None:
    """From pictures to pasted masks, which are compared as torchvision pastes them: by boxes of whole pixels."""
    for image, expected in pairs:
        assert len(expected["scores"]) > 20
        assert len(expected["labels"].unique()) == 3
        torch.testing.assert_close(image.scores, expected["scores"], rtol=0, atol=1e-5)
        assert torch.equal(image.labels, expected["labels"])
        torch.testing.assert_close(image.boxes, expected["boxes"], rtol=0, atol=1e-3)
        pasted = paste_masks_in_image(image.masks[:, None], image.boxes, CANVAS)
        torch.testing.assert_close(pasted, expected["masks"], rtol=0, atol=1e-4)


def test_pasted_masks_are_torchvision_s_but_for_the_rounding_of_boxes(pairs: list[Pair]) -> None:
    for image, expected in pairs:
        large = (image.boxes[:, 2:] - image.boxes[:, :2]).amin(dim=1) > 16
        assert large.sum() > 10
        pasted = paste_masks(image.masks[large], image.boxes[large], *CANVAS) >= 0.5
        overlap = mask_iou(pasted, expected["masks"][large, 0] >= 0.5).diagonal()
        assert overlap.mean() > 0.85


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
    """In float64: in float32 sums differ with the batch on some processors, and the order of nearly equal scores."""
    images, contents = pictures().double(), torch.tensor([CONTENT] * 2)
    exact = copy.deepcopy(ours).double()
    together = exact(ImageList(images, contents), evaluate_params())[1]
    alone = exact(ImageList(images[1:], contents[1:]), evaluate_params())[0]
    assert len(alone.labels) > 20
    assert torch.equal(together.labels, alone.labels)
    torch.testing.assert_close(together.boxes, alone.boxes, rtol=0, atol=1e-3)
    torch.testing.assert_close(together.masks, alone.masks, rtol=0, atol=1e-6)

"""What the assembled detector detects, against torchvision's."""

from __future__ import annotations

import copy
import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import clip_boxes_to_image

from src.core.tensors import load_strictly, read_states
from src.detector import postprocess, roi_heads
from src.detector.box_head import BoxHead
from src.detector.mask_head import MaskHead
from src.detector.mask_rcnn import MaskRCNN
from src.detector.roi_heads import RoiHeads
from src.detector.weights import build
from src.ops.masks import paste_masks
from src.ops.roi_align import multiscale_roi_align
from src.sources.assignment import CLASSES
from src.structures.detections import Detections
from src.structures.image_list import ImageList
from src.structures.proposals import Proposals
from tests.detector.small import (
    CANVAS,
    REGION,
    TORCHVISION_PROPOSALS,
    backbone_params,
    course_checkpoint,
    course_names,
    evaluate_params,
    normalize_scale,
    params,
    torchvision_detector,
    with_params,
)


@pytest.fixture(scope="module")
def theirs() -> TorchvisionMaskRCNN:
    """torchvision's detector, its heads made decided enough that detections of every class pass the threshold."""
    model = torchvision_detector(1)
    predictor = model.roi_heads.box_predictor
    with torch.no_grad():
        normalize_scale(model, pictures())
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
def weights(theirs: TorchvisionMaskRCNN, tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    settings = params(
        backbone=backbone_params(weights=str(weights)),
        proposals=TORCHVISION_PROPOSALS,
        features=dataclasses.replace(params().features, proposals=1000),
        evaluate=evaluate_params(),
    )
    heads = RoiHeads(BoxHead(CLASSES.count), MaskHead(CLASSES.count))
    for head, state in read_states(weights, tuple(HEADS)).items():
        load_strictly(getattr(heads, head), state, head)
    return MaskRCNN(*build(settings.backbone, settings.proposals), heads, settings).eval()


@dataclass(frozen=True)
class Case:
    """A score threshold, and how far to the right and down each picture goes on the canvas."""

    threshold: float
    corners: tuple[tuple[int, int], tuple[int, int]]

    def cropped(self) -> list[Tensor]:
        """The pictures without padding."""
        return [image[:, :bottom, :right] for image, (right, bottom) in zip(pictures(), self.corners, strict=True)]

    def padded(self) -> ImageList:
        """The pictures on canvases that are zero beside them."""
        canvases = torch.zeros_like(pictures())
        for canvas, image in zip(canvases, self.cropped(), strict=True):
            canvas[:, : image.shape[1], : image.shape[2]] = image
        return ImageList(canvases, torch.tensor([[0.0, 0.0, *corner] for corner in self.corners]))


@dataclass(frozen=True)
class Found:
    """What both detectors find in a picture of a height and a width."""

    ours: Detections
    theirs: dict[str, Tensor]
    size: tuple[int, int]


WHOLE = (CANVAS[1], CANVAS[0])
CASES = {
    "as many as are kept": Case(0.05, (WHOLE, WHOLE)),
    "those above a high threshold": Case(0.5, (WHOLE, WHOLE)),
    "pictures of different sizes": Case(0.5, ((100, 96), (128, 64))),
}


@pytest.fixture(scope="module", params=CASES.values(), ids=list(CASES))
@torch.no_grad()
def found(request: pytest.FixtureRequest, ours: MaskRCNN, theirs: TorchvisionMaskRCNN) -> list[Found]:
    """What both find in two pictures, ours by torchvision's rules: clipping, its smallest box, no half pixel."""
    case: Case = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roi_heads, "multiscale_roi_align", functools.partial(multiscale_roi_align, aligned=False))
        patch.setattr(postprocess, "SMALLEST_SIDE", 1e-2)
        patch.setattr(theirs.roi_heads, "score_thresh", case.threshold)
        mine = with_params(ours, evaluate=evaluate_params(score_threshold=case.threshold)).detect(case.padded())
        expected = theirs(case.cropped())
    sizes = [(bottom, right) for right, bottom in case.corners]
    return [Found(*image) for image in zip(mine, expected, sizes, strict=True)]


def test_detections_are_torchvision_s(found: list[Found]) -> None:
    """From pictures to pasted masks, which are compared as torchvision pastes them: by boxes of whole pixels."""
    assert len(torch.cat([image.theirs["labels"] for image in found]).unique()) == 3
    for image in found:
        mine, expected = image.ours, image.theirs
        assert len(expected["scores"]) >= 10
        torch.testing.assert_close(mine.scores, expected["scores"], rtol=0, atol=1e-5)
        assert torch.equal(mine.labels, expected["labels"])
        torch.testing.assert_close(mine.boxes, expected["boxes"], rtol=0, atol=1e-3)
        pasted = paste_masks_in_image(mine.masks[:, None], mine.boxes, image.size)
        torch.testing.assert_close(pasted, expected["masks"], rtol=0, atol=1e-4)


def test_pasted_masks_are_torchvision_s_but_for_the_rounding_of_boxes(found: list[Found]) -> None:
    for image in found:
        boxes = image.ours.boxes
        large = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) > 16
        assert large.sum() > 5
        pasted = paste_masks(image.ours.masks[large], boxes[large], *image.size) >= 0.5
        theirs = image.theirs["masks"][large, 0] >= 0.5
        overlap = (pasted & theirs).sum(dim=(1, 2)) / (pasted | theirs).sum(dim=(1, 2))
        assert overlap.mean() > 0.85


@torch.no_grad()
def test_images_without_proposals_or_detections(ours: MaskRCNN) -> None:
    features = ours.backbone(pictures())
    nothing = Proposals(torch.zeros(0, 4), torch.zeros(0))
    one = Proposals(torch.tensor([[10.0, 10, 60, 60]]), torch.ones(1))
    regions = torch.tensor([REGION] * 2)
    for proposals in ([nothing, nothing], [nothing, one]):
        found = ours.roi_heads.detect(features, proposals, regions, evaluate_params(score_threshold=0.0))
        assert len(found[0].boxes) == 0
        assert found[0].masks.shape[0] == 0
        assert len(found[1].boxes) == len(found[1].masks)
    strict = ours.roi_heads.detect(features, [one, one], regions, evaluate_params(score_threshold=1.0))
    assert [len(image.masks) for image in strict] == [0, 0]


@torch.no_grad()
def test_an_image_s_detections_do_not_depend_on_its_batch(ours: MaskRCNN) -> None:
    """In float64: in float32 sums differ with the batch on some processors, and the order of nearly equal scores."""
    images, regions = pictures().double(), torch.tensor([REGION] * 2)
    exact = copy.deepcopy(ours).double()
    together = exact.detect(ImageList(images, regions))[1]
    alone = exact.detect(ImageList(images[1:], regions[1:]))[0]
    assert len(alone.labels) > 20
    assert torch.equal(together.labels, alone.labels)
    torch.testing.assert_close(together.boxes, alone.boxes, rtol=0, atol=1e-3)
    torch.testing.assert_close(together.masks, alone.masks, rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [5, 20])
@torch.no_grad()
def test_the_second_stage_sees_the_best_proposals_only(ours: MaskRCNN, count: int) -> None:
    images = ImageList(pictures(), torch.tensor([REGION] * 2))
    everything = evaluate_params(score_threshold=0.0, nms_iou=1.0, detections_per_image=10_000)
    limited = with_params(
        ours, features=dataclasses.replace(ours.params.features, proposals=count), evaluate=everything
    )
    features = ours.backbone(images.tensors)
    for found, proposals in zip(limited.detect(images), ours.rpn(images, features), strict=True):
        assert len(proposals.boxes) > 50
        seen = {tuple(box) for box in found.proposals.tolist()}
        assert len(seen) > 0.8 * count  # what is refined to nothing is dropped
        assert seen <= {tuple(box) for box in proposals.boxes[:count].tolist()}


@torch.no_grad()
def test_a_second_look_is_torchvision_s_heads_at_the_first_one_s_boxes(
    ours: MaskRCNN, theirs: TorchvisionMaskRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roi_heads, "multiscale_roi_align", functools.partial(multiscale_roi_align, aligned=False))
    regions = torch.tensor([REGION] * 2)
    proposals = [one.top(30) for one in ours.rpn(ImageList(pictures(), regions), ours.backbone(pictures()))]
    features = theirs.backbone(pictures())

    def look(boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Probabilities of all images' boxes, and the boxes of every class."""
        pooled = theirs.roi_heads.box_roi_pool(features, boxes, [CANVAS] * 2)
        logits, deltas = theirs.roi_heads.box_predictor(theirs.roi_heads.box_head(pooled))
        return logits.softmax(1), theirs.roi_heads.box_coder.decode(deltas, boxes)

    first, refined = look([one.boxes for one in proposals])
    best = refined[torch.arange(60), 1 + first[:, 1:].argmax(1)]
    second, expected = look(list(clip_boxes_to_image(best, CANVAS).split(30)))
    powers = torch.cat([one.scores for one in proposals]).sqrt()[:, None]
    rules = evaluate_params(box_passes=2, objectness_power=0.5)
    found = ours.roi_heads.refine(ours.backbone(pictures()), proposals, regions, rules)
    assert not torch.allclose(best, clip_boxes_to_image(best, CANVAS))
    scores, boxes = (torch.cat([getattr(one, name) for one in found]) for name in ("scores", "boxes"))
    torch.testing.assert_close(scores, ((first + second) / 2 * powers)[:, 1:], rtol=0, atol=1e-4)
    torch.testing.assert_close(boxes, expected[:, 1:], rtol=0, atol=1e-2)

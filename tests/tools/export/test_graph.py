"""The traceable detector beside the pipeline's, step by step, before anything is traced."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import nms

from src.detector.backbones import LiteBody
from src.detector.fpn import STRIDES
from src.detector.mask_rcnn import MaskRCNN
from src.detector.roi_heads import RoiHeads
from src.ops.anchors import pyramid_anchors
from src.ops.roi_align import multiscale_roi_align
from src.structures.image_list import ImageList
from tests.detector.small import evaluate_params, with_params
from tests.tools.export.project import spread_detector
from tools.export import graph
from tools.export.body import PaddedConvolution, with_fixed_padding

CANVASES = [(96, 160), (128, 96), (224, 352)]
RULES: list[dict[str, Any]] = [
    {},
    {"border": "remove"},
    {"class_agnostic_nms": True},
    {"box_passes": 3},
    {"objectness_power": 2.0},
    {"detections_per_image": 7},
    {"nms_iou": 0.1, "border": "remove", "box_passes": 2, "objectness_power": 0.5},
    {"score_threshold": 0.4},
]


@pytest.fixture(scope="module")
def detector() -> MaskRCNN:
    return spread_detector().requires_grad_(False)


def picture(height: int, width: int, seed: int = 0) -> ImageList:
    """Noise in the middle of a canvas."""
    region = torch.tensor([[16.0, 8, width - 16, height - 8]])
    image = torch.zeros(1, 3, height, width)
    draw = torch.Generator().manual_seed(seed)
    image[..., 8:-8, 16:-16] = torch.randn(1, 3, height - 16, width - 32, generator=draw)
    return ImageList(image, region)


def assert_same(model: MaskRCNN, images: ImageList) -> int:
    """The graph finds what the detector finds; so many."""
    (expected,) = model.detect(images)
    boxes, labels, scores, masks = graph.DetectorGraph(model)(images.tensors, images.regions[0])
    torch.testing.assert_close(boxes, expected.boxes, rtol=0, atol=1e-2)
    torch.testing.assert_close(scores, expected.scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(masks, expected.masks, rtol=0, atol=1e-3)
    assert torch.equal(labels, expected.labels)
    return len(labels)


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_the_rules_of_post_processing_hold(detector: MaskRCNN, rules: dict[str, Any]) -> None:
    changed = with_params(detector, evaluate=evaluate_params(**({"detections_per_image": 40} | rules)))
    assert assert_same(changed, picture(96, 160)) > 3


@pytest.mark.parametrize("canvas", CANVASES)
def test_any_canvas(detector: MaskRCNN, canvas: tuple[int, int]) -> None:
    assert assert_same(with_params(detector, evaluate=evaluate_params()), picture(*canvas)) > 10


def test_few_proposals(detector: MaskRCNN) -> None:
    """So that each number of the RPN's decides: of a level, of all, of those that the heads see."""
    few = dataclasses.replace(detector.rpn.params, pre_nms_top_n=30, post_nms_top_n=25, min_size=12.0)
    features = dataclasses.replace(detector.params.features, proposals=20)
    changed = with_params(detector, features=features, evaluate=evaluate_params())
    before = detector.rpn.params
    try:
        detector.rpn.params = few
        assert assert_same(changed, picture(96, 160)) > 3
        detector.rpn.params = dataclasses.replace(few, post_nms_top_n=10)
        assert assert_same(changed, picture(96, 160)) > 3
    finally:
        detector.rpn.params = before


@pytest.mark.parametrize("region", [(0.0, 0, 0, 0), (20, 20, 21, 21), (20, 20, 26, 26)])
def test_pictures_of_almost_nothing(detector: MaskRCNN, region: tuple[float, ...]) -> None:
    images = ImageList(torch.zeros(1, 3, 96, 160), torch.tensor([region], dtype=torch.float32))
    assert_same(with_params(detector, evaluate=evaluate_params()), images)


def test_a_detector_without_a_mask_head_is_none_to_export(detector: MaskRCNN) -> None:
    boxes_alone = MaskRCNN(detector.backbone, detector.rpn, RoiHeads(detector.roi_heads.box_head), detector.params)
    with pytest.raises(ValueError, match="expected a mask head"):
        graph.DetectorGraph(boxes_alone)


@pytest.mark.parametrize("canvas", [*CANVASES, (64, 64), (800, 1088)])
def test_anchors_are_the_pipeline_s(detector: MaskRCNN, canvas: tuple[int, int]) -> None:
    grids = [(canvas[0] // stride, canvas[1] // stride) for stride in STRIDES]
    grids.append(((grids[-1][0] + 1) // 2, (grids[-1][1] + 1) // 2))
    cells = graph.DetectorGraph(detector).cells
    found = graph.place_anchors(cells, canvas, [torch.zeros(1, 1, *grid) for grid in grids])
    expected = pyramid_anchors(detector.rpn.sizes, detector.rpn.ratios, canvas, tuple(grids))
    for level, other in zip(found, expected, strict=True):
        assert torch.equal(level, other)


def some_boxes(count: int, seed: int) -> Tensor:
    """Up to the size of a large canvas, some of them alike."""
    draw = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=draw) * 300
    boxes = torch.cat([low, low + 4 + torch.rand(count, 2, generator=draw) ** 3 * 700], dim=1)
    return torch.cat([boxes[: count - count // 2], boxes[: count // 2] + 1.5])


@given(st.integers(0, 30), st.integers(0, 2**31 - 1), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_suppression_is_torchvision_s(count: int, seed: int, iou: float) -> None:
    boxes = some_boxes(count, seed)
    scores = torch.rand(count, generator=torch.Generator().manual_seed(seed + 1))
    assert torch.equal(graph.suppress(boxes, scores, iou), nms(boxes, scores, iou))


@pytest.mark.parametrize("count", [0, 1, 40])
def test_pooling_is_the_pipeline_s(count: int) -> None:
    draw = torch.Generator().manual_seed(1)
    features = [torch.randn(1, 3, 1024 // stride, 1024 // stride, generator=draw) for stride in STRIDES]
    boxes = some_boxes(count, 2)
    expected = multiscale_roi_align(features, torch.cat([torch.zeros(count, 1), boxes], dim=1), 7, STRIDES)
    torch.testing.assert_close(graph.pool(features, boxes, 7), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2"])
def test_bodies_with_fixed_padding_are_the_same(name: str) -> None:
    torch.manual_seed(0)
    body = LiteBody(name, pretrained=True).eval().requires_grad_(False)
    fixed = with_fixed_padding(body)
    replaced = [part for part in fixed.modules() if isinstance(part, PaddedConvolution)]
    assert len(replaced) == 1 + sum(len(stage) for stage in body.net.blocks)  # type: ignore[arg-type,union-attr,misc]
    assert not any(isinstance(part, PaddedConvolution) for part in body.modules())
    for height, width in ((64, 96), (160, 128)):
        image = torch.randn(1, 3, height, width)
        for found, expected in zip(fixed(image), body(image), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

"""torchvision's detector around our weights: every tensor of either has its place in the other."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from benchmarks.torchvision_baseline import targets_of, torchvision_mask_rcnn, with_weights_of
from src.core.params import Params
from src.detector.checkpoints import load_detector
from src.structures.target import Target

CPU = torch.device("cpu")


def test_weights_are_ours(finished: Params) -> None:
    detector, classes = load_detector(finished, CPU)
    model = with_weights_of(torchvision_mask_rcnn(finished, classes, copy.deepcopy(detector.backbone.body)), detector)
    heads, ours = model.roi_heads, detector.roi_heads
    assert torch.equal(heads.box_predictor.cls_score.weight, ours.box_head.cls_score.weight)
    assert torch.equal(heads.box_head.fc7.weight, ours.box_head.fc7.weight)
    assert torch.equal(heads.mask_predictor.mask_fcn_logits.weight, ours.mask_head.mask_fcn_logits.weight)
    assert torch.equal(heads.mask_head[3][0].bias, ours.mask_head.mask_fcn4.bias)
    assert torch.equal(model.rpn.head.conv[0][0].weight, detector.rpn.head.conv.weight)
    assert torch.equal(model.backbone.fpn.layer_blocks[2][0].weight, detector.backbone.fpn.layer_blocks[2].weight)


def test_a_tensor_without_a_place_is_refused(finished: Params) -> None:
    detector, classes = load_detector(finished, CPU)
    model = torchvision_mask_rcnn(finished, classes, copy.deepcopy(detector.backbone.body))
    detector.roi_heads.mask_head = None
    with pytest.raises(ValueError, match=r"found only in one roi_heads\.mask_head\.conv5_mask\.bias"):
        with_weights_of(model, detector)


def test_numbers_come_from_params(finished: Params) -> None:
    rules = dataclasses.replace(finished.evaluate, score_threshold=0.3, nms_iou=0.4, detections_per_image=7)
    features = dataclasses.replace(finished.features, proposals=9)
    params = dataclasses.replace(finished, evaluate=rules, features=features)
    detector, classes = load_detector(params, CPU)
    model = torchvision_mask_rcnn(params, classes, detector.backbone.body).eval()
    heads = model.roi_heads
    assert (heads.score_thresh, heads.nms_thresh, heads.detections_per_img) == (0.3, 0.4, 7)
    assert (model.rpn.pre_nms_top_n(), model.rpn.post_nms_top_n()) == (params.proposals.pre_nms_top_n, 9)
    images, _ = model.transform([torch.rand(3, params.prepare.height, params.prepare.padded_width)])
    assert images.image_sizes == [(params.prepare.height, params.prepare.padded_width)]  # as they are


def test_targets() -> None:
    masks = torch.tensor([[[True, False]]])
    found = targets_of(Target(torch.ones(1, 4), torch.tensor([2]), masks, torch.zeros(3, 4)))
    assert {name: value.dtype for name, value in found.items()} == {
        "boxes": torch.float32,
        "labels": torch.int64,
        "masks": torch.uint8,
    }
    assert found["masks"].tolist() == [[[1, 0]]]

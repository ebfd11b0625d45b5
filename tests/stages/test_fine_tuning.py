"""The start of fine-tuning: the same weights at every call, and what learns as the params say."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from src.core.params import Params
from src.detector.backbones import LiteBody
from src.detector.mask_rcnn import MaskRCNN
from src.sources.assignment import CLASSES
from stages.backbone.__main__ import start_fine_tuning
from tests.detector.small import CPU, backbone_params, params


def settings(**backbone: Any) -> Params:
    values = {"name": "efficientnet_lite0", "weights": "imagenet", "trainable_layers": 0}
    return params(backbone=backbone_params(**(values | backbone)))


def started(**backbone: Any) -> MaskRCNN:
    return start_fine_tuning(settings(**backbone), CLASSES, CPU)


def differing(first: MaskRCNN, second: MaskRCNN) -> set[str]:
    """Networks of a detector whose weights are not those of another one."""
    states = first.state_dict(), second.state_dict()
    assert states[0].keys() == states[1].keys()
    return {name.rsplit(".", 2)[0] for name, value in states[0].items() if not torch.equal(value, states[1][name])}


def test_every_call_gives_the_same_weights() -> None:
    first = started()
    torch.manual_seed(99)
    torch.rand(7)
    assert differing(first, started()) == set()


def test_the_seed_draws_all_but_the_pretrained_weights() -> None:
    found = differing(started(seed=1), started(seed=2))
    assert {"rpn.head", "roi_heads.box_head"} <= found
    assert any(name.startswith("backbone.fpn") for name in found)
    assert not any(name.startswith("backbone.body") for name in found)


def test_the_body_has_the_pretrained_weights() -> None:
    expected = LiteBody("efficientnet_lite0", pretrained=True).state_dict()
    body = started().backbone.body.state_dict()
    assert body.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in body.items())


@pytest.mark.parametrize("count", range(6))
@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2", "resnet50"])
def test_as_many_layers_learn_as_the_params_say(name: str, count: int) -> None:
    weights = "none" if name == "resnet50" else "imagenet"
    found = started(name=name, weights=weights, trainable_layers=count)
    learns = [
        {parameter.requires_grad for module in layer for parameter in module.parameters()}
        for layer in found.backbone.body.layers()
    ]
    assert learns == [{False}] * (5 - count) + [{True}] * count
    for part in (found.backbone.fpn, found.rpn, found.roi_heads):
        assert all(parameter.requires_grad for parameter in part.parameters())


def test_boxes_alone_are_learned_along_with_the_rpn() -> None:
    found = started()
    assert found.roi_heads.mask_head is None
    assert found.roi_heads.box_head.dropout.p == 0


def test_convolutions_are_channels_last() -> None:
    found = started()
    weight = found.backbone.fpn.layer_blocks[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


def test_the_params_are_the_detector_s() -> None:
    few = dataclasses.replace(params().proposals, post_nms_top_n=7)
    given = dataclasses.replace(settings(anchor_sizes=(8.0, 16.0, 32.0, 64.0, 128.0)), proposals=few)
    found = start_fine_tuning(given, CLASSES, CPU)
    assert found.params == given
    assert (found.rpn.params, found.rpn.sizes) == (few, given.backbone.anchor_sizes)

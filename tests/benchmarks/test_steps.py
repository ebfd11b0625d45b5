"""The contestants of training steps do the same work."""

from __future__ import annotations

import copy

import torch
from torch import nn

from benchmarks.steps import written_plainly
from src.plain_rpn.network import PlainRpnNetwork


def test_part_a_written_plainly_is_the_same_network() -> None:
    network = PlainRpnNetwork(2)
    plain = written_plainly(copy.deepcopy(network))
    layers = [type(module) for module in plain.backbone.modules()]
    assert layers.count(nn.ReLU) == 5
    pools = [place for place, layer in enumerate(layers) if layer is nn.MaxPool2d]
    assert [layers[place - 1] for place in pools] == [nn.ReLU] * 4
    images = torch.randn(1, 3, 48, 64)
    for found, expected in zip(plain(images), network(images), strict=True):
        torch.testing.assert_close(found, expected)

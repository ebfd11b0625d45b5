"""The receptive field: computed and measured agree, and both lie where the anchors do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from src.plain_rpn import receptive_field as module
from src.plain_rpn.network import ANCHOR_OFFSET, STRIDE, PlainRpnNetwork
from src.plain_rpn.receptive_field import (
    freeze_batch_stats,
    input_gradient,
    layers,
    measured_receptive_field,
    receptive_field,
)
from tests.other_device import DEVICE, OtherDevice


@pytest.fixture(scope="module")
def network() -> PlainRpnNetwork:
    return PlainRpnNetwork()


def seen_by(interval: tuple[int, int], kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """Input positions, first and last, that outputs first..last of one layer read."""
    return interval[0] * stride - padding, interval[1] * stride - padding + kernel - 1


def test_the_field_of_the_intermediate_layer_is_172_pixels(network):
    interval = seen_by((100, 100), 3, 1, 1)
    for pooled in (False, True, True, True, True):  # from the deepest convolution up to the image
        interval = seen_by(interval, 2, 2, 0) if pooled else interval
        interval = seen_by(interval, 5, 1, 2)
    assert interval[1] - interval[0] + 1 == 172
    assert receptive_field(network) == 172


def test_layers_by_hand(network):
    fields = [row.receptive_field for row in layers(network, 800, 1088)]
    assert fields == [5, 6, 14, 16, 32, 36, 68, 76, 140, 172, 172, 172]


def test_measured_and_computed_agree(network):
    assert measured_receptive_field(network) == (172, 172)


def test_the_field_of_a_network_on_another_device() -> None:
    with OtherDevice():
        assert measured_receptive_field(PlainRpnNetwork().to(DEVICE)) == (172, 172)


def test_both_follow_a_changed_kernel():
    changed = PlainRpnNetwork()
    changed.intermediate[0] = nn.Conv2d(256, 256, 5, padding=2, bias=False)
    assert receptive_field(changed) == 204
    assert measured_receptive_field(changed) == (204, 204)


def test_the_field_is_centered_on_the_cell_s_anchor(network):
    linear = module._linear_copy(network)
    seen = input_gradient(linear, torch.zeros(1, 3, 288, 320), (8, 10)) > 0
    for axis, cell in ((1, 8), (0, 10)):
        places = seen.any(dim=axis).nonzero().squeeze(1)
        center = (int(places[0]) + int(places[-1]) + 1) / 2
        assert center == (cell + ANCHOR_OFFSET) * STRIDE


def test_measuring_leaves_the_network_as_it_was(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    measured_receptive_field(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training


def test_a_real_network_sees_nothing_outside_its_field():
    network, image = PlainRpnNetwork(), torch.randn(1, 3, 288, 288)
    gradient = input_gradient(freeze_batch_stats(network, image), image, (9, 9))
    field = torch.zeros(288, 288, dtype=torch.bool)
    field[152 - 86 : 152 + 86, 152 - 86 : 152 + 86] = True
    assert (gradient[~field] == 0).all()
    assert (gradient[field] > 0).any()


def test_freezing_statistics_changes_no_output_and_not_the_network(network):
    image = torch.randn(1, 3, 288, 320)  # many positions: running variances divide by one less than the batch's
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        for found, expected in zip(freeze_batch_stats(network, image)(image), network(image), strict=True):
            torch.testing.assert_close(found, expected, rtol=0.02, atol=5e-4)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

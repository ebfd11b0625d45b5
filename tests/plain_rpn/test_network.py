"""Part (a)'s network is the table of task 1, and its outputs meet the anchors in the right order."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from src.ops.anchors import cell_anchors, grid_anchors
from src.plain_rpn.network import PlainRpnNetwork, flatten_outputs, rectified_pooling
from src.plain_rpn.receptive_field import layers


def plain(network: PlainRpnNetwork, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The table of task 1 and tasks 4 and 6, written out, in training mode; one image at a time."""
    state, x = network.state_dict(), images
    for number in range(1, 6):
        x = F.conv2d(x, state[f"backbone.convolution{number}.0.weight"], padding=2)
        norm = (state[f"backbone.convolution{number}.1.{name}"] for name in ("weight", "bias"))
        x = F.relu(F.batch_norm(x, None, None, *norm, training=True))
        x = F.max_pool2d(x, 2) if number < 5 else x
    x = F.conv2d(x, state["intermediate.0.weight"], padding=1)
    x = F.relu(F.batch_norm(x, None, None, state["intermediate.1.weight"], state["intermediate.1.bias"], training=True))
    outputs = ((state[f"{name}.weight"], state[f"{name}.bias"]) for name in ("classifier", "regressor"))
    return tuple(F.conv2d(x, weight, bias) for weight, bias in outputs)


def test_the_table_of_task_1():
    network = PlainRpnNetwork()
    convolutions = [module for module in network.backbone.modules() if isinstance(module, nn.Conv2d)]
    assert [(c.kernel_size, c.out_channels) for c in convolutions] == [((5, 5), n) for n in (16, 32, 64, 128, 256)]
    pools = [module for module in network.backbone.modules() if isinstance(module, nn.MaxPool2d)]
    assert [(p.kernel_size, p.stride, p.padding) for p in pools] == [(2, 2, 0)] * 4
    assert network.intermediate[0].kernel_size == (3, 3)
    assert network.intermediate[0].out_channels == 256


def test_the_network_computes_what_the_assignment_writes():
    network, images = PlainRpnNetwork(), torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        alone = [plain(network, image) for image in images.split(1)]
        for found, expected in zip(network(images), map(torch.cat, zip(*alone, strict=True)), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_relu_after_the_pooling_changes_no_bit(dtype):
    draw = torch.Generator().manual_seed(0)
    draws = 3 * torch.randn(2, 3, 16, 20, generator=draw)
    values = draws.round().to(dtype)  # many are equal, many negative, many zero
    gradient = torch.randn(2, 3, 8, 10, generator=draw).to(dtype)
    outputs, gradients = [], []
    for layer in (rectified_pooling(), nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))):
        entry = values.clone().requires_grad_()
        outputs.append(layer(entry))
        outputs[-1].backward(gradient)
        gradients.append(entry.grad)
    assert torch.equal(*outputs)
    assert torch.equal(*gradients)


def test_the_grid_of_the_full_canvas_is_50_by_68():
    rows = {row.name: row.output for row in layers(PlainRpnNetwork(), 800, 1088)}
    assert rows["intermediate"] == (256, 50, 68)
    assert (rows["classifier"], rows["regressor"]) == ((1, 50, 68), (4, 50, 68))


def test_outputs_start_at_one_half_and_at_the_anchors():
    network = PlainRpnNetwork().eval()
    logits, deltas = network(torch.randn(1, 3, 64, 64))
    assert logits.abs().max() < 1
    assert deltas.abs().max() < 1


def test_the_listed_parameters_are_all_there_are():
    network = PlainRpnNetwork(3)
    assert sum(row.parameters for row in layers(network, 64, 64)) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("anchors", [1, 3])
def test_flattening_meets_the_anchors_in_their_order(anchors):
    height, width = 3, 4
    grid = grid_anchors(cell_anchors([(10 + a, 20 + a) for a in range(anchors)]), height, width, 16, offset=0.5)
    logits = torch.zeros(1, anchors, height, width)
    deltas = torch.zeros(1, 4 * anchors, height, width)
    for a in range(anchors):
        for y in range(height):
            for x in range(width):  # each location writes its own anchor's coordinates
                place = torch.tensor([(x + 0.5) * 16, (y + 0.5) * 16, 10 + a, 20 + a])
                deltas[0, 4 * a : 4 * a + 4, y, x] = place
                logits[0, a, y, x] = place.sum()
    scores, rows = flatten_outputs(logits, deltas)
    centers, sizes = (grid[:, :2] + grid[:, 2:]) / 2, grid[:, 2:] - grid[:, :2]
    torch.testing.assert_close(rows[0], torch.cat([centers, sizes], dim=1))
    torch.testing.assert_close(scores[0], rows[0].sum(dim=1))

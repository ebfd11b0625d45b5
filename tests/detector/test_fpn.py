"""The feature pyramid: against torchvision's, and its sparse evaluation against its dense one."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from src.detector.fpn import ROWS, FeaturePyramid, convolve_at, neighbors_of
from tests.detector.small import randomize

CHANNELS = (3, 4, 5, 6)


def pyramid(seed: int = 0) -> FeaturePyramid:
    net = FeaturePyramid(CHANNELS, out_channels=7).double()
    randomize(net.parameters(), seed)
    return net


def body_maps(batch: int, height: int, width: int, seed: int = 0) -> list[Tensor]:
    """Maps as a body gives them: each level half the one before, rounded up."""
    draw = torch.Generator().manual_seed(seed)
    maps = []
    for channels in CHANNELS:
        shape = (batch, channels, height, width)
        maps.append(torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_())
        height, width = (height + 1) // 2, (width + 1) // 2
    return maps


def dense_rows(levels: list[Tensor]) -> Tensor:
    """P2..P5 as rows (b * H + y) * W + x, level after level."""
    return torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in levels[:4]])


def test_levels_equal_torchvision_s() -> None:
    ours, maps = pyramid(), body_maps(2, 13, 10)
    theirs = FeaturePyramidNetwork(list(CHANNELS), 7, LastLevelMaxPool()).double()
    state = ours.state_dict()
    theirs.load_state_dict(
        {name.replace(".weight", ".0.weight").replace(".bias", ".0.bias"): value for name, value in state.items()}
    )
    expected = list(theirs(OrderedDict((str(i), level) for i, level in enumerate(maps))).values())
    found = ours(maps)
    assert [level.shape for level in found] == [level.shape for level in expected]
    for level, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(level, wanted)


@pytest.mark.parametrize("finest", range(4))
def test_the_coarser_levels_alone(finest: int) -> None:
    net = pyramid()
    top_down_maps = net.top_down(body_maps(1, 8, 8))
    found, expected = net.outputs(top_down_maps, finest), net.outputs(top_down_maps)[finest:]
    assert len(found) == 5 - finest
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_keys_are_the_course_s() -> None:
    kinds = ("weight", "bias")
    blocks = ("inner_blocks", "layer_blocks")
    expected = {f"{block}.{number}.{kind}" for block in blocks for number in range(4) for kind in kinds}
    assert set(FeaturePyramid(CHANNELS).state_dict()) == expected


@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 2**20),
)
def test_rows_at_are_the_dense_maps_there(batch: int, height: int, width: int, share: float, seed: int) -> None:
    net, maps = pyramid(seed), body_maps(batch, height, width, seed)
    expected = dense_rows(net(maps))
    rows = (torch.rand(len(expected), generator=torch.Generator().manual_seed(seed)) < share).nonzero().squeeze(1)
    found = net.rows_at(net.top_down(maps), rows)
    torch.testing.assert_close(found, expected[rows])


@pytest.mark.parametrize(("count", "multiplied"), [(0, 0), (1, ROWS), (ROWS, ROWS), (ROWS + 1, 2 * ROWS)])
def test_any_number_of_places_is_multiplied_in_few_shapes(
    count: int, multiplied: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []

    def linear(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        shapes.append(len(rows))
        return rows @ weight.T + bias

    monkeypatch.setattr(F, "linear", linear)
    convolution = nn.Conv2d(3, 2, 3, padding=1).double()
    features = torch.randn(2, 3, 20, 30, dtype=torch.float64)
    rows = torch.arange(count) % 1200
    found = convolve_at(features, convolution, rows)
    assert shapes == [multiplied]
    expected = convolution(features).permute(0, 2, 3, 1).flatten(0, 2)[rows]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("channels_last", [False, True])
def test_rows_at_have_the_dense_maps_gradients(channels_last: bool) -> None:
    net, maps = pyramid(), body_maps(2, 9, 6)
    if channels_last:
        maps = [level.detach().contiguous(memory_format=torch.channels_last).requires_grad_() for level in maps]
    count = len(dense_rows(net(maps)))
    rows = torch.arange(0, count, 2)  # corners, edges and the inside of every level
    upstream = torch.randn(len(rows), 7, dtype=torch.float64)
    wanted = [*net.parameters(), *maps]
    dense = torch.autograd.grad((dense_rows(net(maps))[rows] * upstream).sum(), wanted)
    sparse = torch.autograd.grad((net.rows_at(net.top_down(maps), rows) * upstream).sum(), wanted)
    for found, expected in zip(sparse, dense, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_single_cell_sees_only_zeros_around_it() -> None:
    convolution = nn.Conv2d(2, 3, 3, padding=1).double()
    features = torch.randn(1, 2, 1, 1, dtype=torch.float64)
    found = convolve_at(features, convolution, torch.tensor([0]))
    torch.testing.assert_close(found, convolution(features).flatten(1))


def test_neighbors_stay_in_their_image_and_row() -> None:
    rows, inside = neighbors_of(torch.tensor([0, 3, 11, 12]), 3, 4)  # corners of two images of 3 x 4
    assert inside.sum(1).tolist() == [4, 4, 4, 4]
    assert rows[0].tolist() == [0, 0, 0, 0, 0, 1, 0, 4, 5]
    assert rows[3][inside[3] > 0].tolist() == [12, 13, 16, 17]  # not 8, 9 of the first image
    assert (rows // 12 == torch.tensor([[0], [0], [0], [1]])).all()

"""The fast convolution against PyTorch's own in double precision, and when it is not used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from src.core import nnpack
from src.core.nnpack import has_nnpack
from src.ops.convolution import LEAST_CHANNELS, LEAST_POSITIONS, FastConv2d

TOLERANCE = 2e-5  # of the largest value
needs_nnpack = pytest.mark.skipif(not has_nnpack(), reason="no NNPACK on this processor")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes that NNPACK was given, from now on."""
    has_nnpack()
    shapes: list[tuple[int, ...]] = []
    operator = torch._nnpack_spatial_convolution

    def noted(features: Tensor, *rest: Any) -> Tensor:
        shapes.append(tuple(features.shape))
        return operator(features, *rest)

    monkeypatch.setattr(torch, "_nnpack_spatial_convolution", noted)
    return shapes


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """Has `has_nnpack` find out again, before and after the test."""
    has_nnpack.cache_clear()
    yield
    has_nnpack.cache_clear()


def assert_near(found: Tensor, expected: Tensor, within: float = TOLERANCE) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= within * expected.abs().max().clamp(min=1e-6)


@needs_nnpack
@given(
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(16, 33), st.integers(16, 33)),
    size=st.tuples(st.integers(20, 60), st.integers(40, 60)),
    kernel=st.sampled_from([3, 5]),
    bias=st.booleans(),
    channels_last=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_values_and_gradients_are_those_of_the_definition(
    batch: int,
    channels: tuple[int, int],
    size: tuple[int, int],
    kernel: int,
    bias: bool,
    channels_last: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    layer = FastConv2d(*channels, kernel, padding=kernel // 2, bias=bias)
    features = torch.randn(batch, channels[0], *size)
    if channels_last:
        features = features.contiguous(memory_format=torch.channels_last)
    features.requires_grad_()
    found = layer(features)
    assert "_Convolution" in type(found.grad_fn).__name__
    pulls = torch.randn_like(found)
    found.backward(pulls)

    inputs = [value.detach().double().requires_grad_() for value in (features, *layer.parameters())]
    expected = F.conv2d(*inputs, padding=kernel // 2)
    expected.backward(pulls.double())
    assert_near(found, expected)
    for value, reference in zip((features, *layer.parameters()), inputs, strict=True):
        assert value.grad is not None
        assert reference.grad is not None
        assert_near(value.grad, reference.grad)


@needs_nnpack
def test_it_repeats_byte_for_byte() -> None:
    torch.manual_seed(0)
    layer, features = FastConv2d(16, 32, 3, padding=1), torch.randn(2, 16, 50, 68)
    assert torch.equal(layer(features), layer(features))


@needs_nnpack
def test_an_image_is_the_same_in_a_batch() -> None:
    torch.manual_seed(0)
    layer, features = FastConv2d(16, 32, 5, padding=2), torch.randn(3, 16, 50, 68)
    assert torch.equal(layer(features), torch.cat([layer(image) for image in features.split(1)]))


@needs_nnpack
@pytest.mark.parametrize("trained", ["all", "weights", "nothing"])
def test_it_computes_only_what_is_asked(calls: list[tuple[int, ...]], trained: str) -> None:
    layer, features = FastConv2d(16, 20, 3, padding=1), torch.randn(1, 16, 40, 40, requires_grad=trained == "all")
    with torch.set_grad_enabled(trained != "nothing"):
        found = layer(features)
    assert calls == [(1, 16, 40, 40)]
    if trained == "nothing":
        assert not found.requires_grad
        return
    found.sum().backward()
    assert calls == [(1, 16, 40, 40), *([(1, 20, 40, 40)] if trained == "all" else [])]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ({"kernel_size": 3, "padding": 1}, (1, 16, LEAST_POSITIONS // 32 - 1, 32)),
        ({"kernel_size": 3, "padding": 1, "in_channels": LEAST_CHANNELS - 1}, (1, LEAST_CHANNELS - 1, 40, 40)),
        ({"kernel_size": 3, "padding": 1, "out_channels": LEAST_CHANNELS - 1}, (1, 16, 40, 40)),
        ({"kernel_size": 3}, (1, 16, 40, 40)),
        ({"kernel_size": 1}, (1, 16, 40, 40)),
        ({"kernel_size": 7, "padding": 3}, (1, 16, 40, 40)),
        ({"kernel_size": (3, 5), "padding": (1, 2)}, (1, 16, 40, 40)),
        ({"kernel_size": 3, "padding": 1, "stride": 2}, (1, 16, 40, 40)),
        ({"kernel_size": 3, "padding": 2, "dilation": 2}, (1, 16, 40, 40)),
        ({"kernel_size": 3, "padding": 1, "groups": 16}, (1, 16, 40, 40)),
        ({"kernel_size": 3, "padding": 1, "padding_mode": "reflect"}, (1, 16, 40, 40)),
        ({"kernel_size": 3, "padding": "same"}, (1, 16, 40, 40)),
        ({"kernel_size": 3, "padding": 1}, (0, 16, 40, 40)),
        ({"kernel_size": 3, "padding": 1}, (16, 40, 40)),
        ({"kernel_size": 3, "padding": 1, "dtype": torch.float64}, (1, 16, 40, 40)),
    ],
)
def test_all_else_is_torchs(calls: list[tuple[int, ...]], layer: dict[str, Any], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"in_channels": 16, "out_channels": 16, **layer}
    fast, plain = FastConv2d(**settings), nn.Conv2d(**settings)
    plain.load_state_dict(fast.state_dict())  # the same keys
    features = torch.randn(shape, dtype=settings.get("dtype"))
    assert torch.equal(fast(features), plain(features))
    assert not calls


def test_mixed_precision_is_torchs(calls: list[tuple[int, ...]]) -> None:
    fast = FastConv2d(16, 16, 3, padding=1)
    features = torch.randn(1, 16, 40, 40)
    with torch.autocast("cpu", torch.bfloat16):
        assert fast(features).dtype == torch.bfloat16
    assert not calls


def test_an_exported_program_has_torchs() -> None:
    layer, features = FastConv2d(16, 16, 3, padding=1).eval(), torch.randn(1, 16, 40, 40)
    sides = {2: torch.export.Dim("height", min=8, max=999), 3: torch.export.Dim("width", min=8, max=999)}
    program = torch.export.export(layer, (features,), dynamic_shapes=[sides])
    assert "nnpack" not in str(program.graph)
    other = torch.randn(1, 16, 50, 60)
    torch.testing.assert_close(program.module()(other), nn.Conv2d.forward(layer, other))


def wrong(features: Tensor, *_: Any) -> Tensor:
    return torch.zeros_like(features)


def broken(features: Tensor, *_: Any) -> Tensor:
    return torch.full_like(features, torch.nan)


def refused(*_: Any) -> Tensor:
    raise RuntimeError("NNPACK SpatialConvolution_updateOutput failed")


@pytest.mark.usefixtures("asked_anew")
@pytest.mark.parametrize("operator", [wrong, broken, refused, None])
def test_what_answers_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch, operator: Any) -> None:
    if operator is None:
        monkeypatch.delattr(torch, "_nnpack_spatial_convolution")
    else:
        monkeypatch.setattr(torch, "_nnpack_spatial_convolution", operator)
    assert not has_nnpack()
    layer, features = FastConv2d(16, 16, 3, padding=1), torch.randn(1, 16, 40, 40)
    assert torch.equal(layer(features), nn.Conv2d.forward(layer, features))


@pytest.mark.usefixtures("asked_anew")
@pytest.mark.parametrize(("machine", "there"), [("arm64", True), ("aarch64", True), ("x86_64", False)])
def test_other_processors_are_not_asked(monkeypatch: pytest.MonkeyPatch, machine: str, there: bool) -> None:
    monkeypatch.setattr(nnpack.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.nnpack, "is_available", lambda: there)
    assert not has_nnpack()

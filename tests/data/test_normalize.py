"""Normalization against torchvision, and a padding that is 0 afterwards."""

import torch
from torchvision.transforms.v2 import functional as reference

from src.data.normalize import Normalization, normalize
from tests.factories import SMALL

IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def images(batch: int = 2) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, 3, 20, 30), dtype=torch.uint8, generator=draw)


def test_agrees_with_torchvision_inside_the_picture() -> None:
    pictures = images()
    regions = torch.tensor([[0.0, 0.0, 30.0, 20.0]] * 2)
    expected = reference.normalize(pictures.float() / 255, IMAGENET.mean, IMAGENET.std)
    torch.testing.assert_close(normalize(pictures, IMAGENET, regions), expected, atol=1e-5, rtol=1e-5)


def test_the_padding_is_zero_and_each_picture_has_its_own() -> None:
    regions = torch.tensor([[4.0, 0.0, 26.0, 20.0], [0.0, 3.0, 30.0, 17.0]])
    result = normalize(images(), IMAGENET, regions)
    assert not result[0, :, :, :4].any()
    assert not result[0, :, :, 26:].any()
    assert not result[1, :, :3].any()
    assert not result[1, :, 17:].any()
    assert result[0, :, :, 4:26].ne(0).all()
    assert result[1, :, 3:17].ne(0).all()


def test_keeps_the_memory_format_and_the_input() -> None:
    pictures = images().contiguous(memory_format=torch.channels_last)
    before = pictures.clone()
    result = normalize(pictures, IMAGENET, torch.tensor([[4.0, 0.0, 26.0, 20.0]] * 2))
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pictures, before)


def test_no_pictures() -> None:
    assert normalize(images(0), IMAGENET, torch.zeros((0, 4))).shape == (0, 3, 20, 30)


def test_the_params_own() -> None:
    assert Normalization.from_params(SMALL) == IMAGENET

"""Minibatches for a network: normalized inside the picture, zero outside, channels last, targets where it computes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from src.data.batches import Batcher
from src.data.normalize import Normalization
from src.data.prepared import Example, PreparedFile
from src.structures.target import Target
from tests.factories import SMALL, make_prepared

PREPARE = dataclasses.replace(SMALL, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedFile]:
    """Three pictures of 96 x 128 on a canvas of 96 x 160."""
    with PreparedFile(make_prepared(tmp_path_factory.mktemp("batches"), 3, 0, PREPARE)) as file:
        yield file


@pytest.fixture
def examples(prepared: PreparedFile) -> list[Example]:
    return list(prepared.examples(range(3)))


def batcher(prepared: PreparedFile, device: torch.device = CPU) -> Batcher:
    return Batcher(Normalization.from_params(PREPARE), device)


def test_a_minibatch_is_normalized_as_by_hand(prepared: PreparedFile, examples: list[Example]) -> None:
    batch = batcher(prepared).images(examples)
    assert batch.tensors.shape == (3, 3, 96, 160)
    assert batch.tensors.dtype == torch.float32
    for found, example in zip(batch.tensors.numpy(), examples, strict=True):
        expected = np.zeros((3, 96, 160))
        for channel, (mean, std) in enumerate(zip(PREPARE.mean, PREPARE.std, strict=True)):
            picture = example.image[channel, :, 16:144].numpy().astype(np.float64)
            expected[channel, :, 16:144] = (picture / 255 - mean) / std
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_nothing_but_zeros_lies_outside_the_pictures(prepared: PreparedFile, examples: list[Example]) -> None:
    """Normalized black would be -4 there; and what stands in the padding does not matter."""
    noisy = [dataclasses.replace(example, image=torch.randint_like(example.image, 1, 256)) for example in examples]
    for given in (examples, noisy):
        tensors = batcher(prepared).images(given).tensors
        assert not tensors[..., :16].any()
        assert not tensors[..., 144:].any()
        assert tensors[..., 16:144].any(dim=-1).all()


def test_every_picture_has_the_same_region(prepared: PreparedFile, examples: list[Example]) -> None:
    batch = batcher(prepared).images(examples)
    assert batch.regions.tolist() == [[16, 0, 144, 96]] * 3
    assert batch.image_sizes == [(96, 128)] * 3


@pytest.mark.parametrize("count", [1, 3])
def test_a_minibatch_is_channels_last(prepared: PreparedFile, examples: list[Example], count: int) -> None:
    planes = [dataclasses.replace(example, image=example.image.contiguous()) for example in examples[:count]]
    for given in (examples[:count], planes):
        tensors = batcher(prepared).images(given).tensors
        assert tensors.is_contiguous(memory_format=torch.channels_last)
        assert not tensors.is_contiguous()


def test_targets_are_the_examples_own_in_their_order(prepared: PreparedFile, examples: list[Example]) -> None:
    images, targets = batcher(prepared)(examples)
    assert torch.equal(images.tensors, batcher(prepared).images(examples).tensors)
    assert len(targets) == 3
    for found, example in zip(targets, examples, strict=True):
        for field in dataclasses.fields(Target):
            assert torch.equal(getattr(found, field.name), getattr(example.target, field.name)), field.name


def test_targets_are_on_the_network_s_device(prepared: PreparedFile, examples: list[Example]) -> None:
    """`meta` stands in for a GPU: a device that every machine has and that is not the processor."""
    targets = batcher(prepared, torch.device("meta")).targets(examples)
    for target in targets:
        assert {getattr(target, field.name).device.type for field in dataclasses.fields(Target)} == {"meta"}

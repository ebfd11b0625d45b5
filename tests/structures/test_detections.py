"""Detections come to the processor field by field, none left out and none in another's place."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from src.structures.detections import Detections

FIELDS = [field.name for field in dataclasses.fields(Detections)]


def made(count: int) -> Detections:
    draw = torch.Generator().manual_seed(count)
    return Detections(
        boxes=torch.rand(count, 4, generator=draw),
        labels=torch.randint(1, 4, (count,), generator=draw),
        scores=torch.rand(count, generator=draw),
        proposals=torch.rand(count, 4, generator=draw),
        masks=torch.rand(count, 28, 28, generator=draw),
    )


@pytest.mark.parametrize("count", [0, 3])
def test_on_the_processor_they_are_the_same(count: int) -> None:
    found, moved = made(count), made(count).cpu()
    assert len(moved) == len(found) == count
    for name in FIELDS:
        assert torch.equal(getattr(moved, name), getattr(found, name)), name


def test_every_field_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    found, moved = made(3), []

    def cpu(tensor: Tensor) -> Tensor:
        moved.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(Tensor, "cpu", cpu)
    result = found.cpu()
    assert [id(tensor) for tensor in moved] == [id(getattr(found, name)) for name in FIELDS]
    assert all(getattr(result, name) is not getattr(found, name) for name in FIELDS)


def test_detections_may_wait_for_their_masks() -> None:
    waiting = dataclasses.replace(made(3), masks=torch.zeros(3, 0, 0))
    assert len(waiting) == 3
    assert waiting.cpu().masks.shape == (3, 0, 0)

"""The ground truth of an image moves to a device whole, and there is one for a picture without any."""

from __future__ import annotations

import dataclasses

import torch

from src.structures.target import Target, no_target

FIELDS = [field.name for field in dataclasses.fields(Target)]


def made() -> Target:
    return Target(
        boxes=torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]),
        labels=torch.tensor([3, 1]),
        masks=torch.rand(2, 8, 8) > 0.5,
        crowd=torch.tensor([[0.0, 0, 8, 8]]),
    )


def test_a_target_moves_whole() -> None:
    target = made()
    same, moved = target.to(torch.device("cpu")), target.to(torch.device("meta"))
    for name in FIELDS:
        before = getattr(target, name)
        assert torch.equal(getattr(same, name), before), name
        after = getattr(moved, name)  # of `meta` only type and shape are known
        assert (after.device.type, after.dtype, after.shape) == ("meta", before.dtype, before.shape), name


def test_masks_that_were_not_read_stay_unread() -> None:
    target = dataclasses.replace(made(), masks=torch.zeros(0, 8, 8, dtype=torch.bool))
    assert target.to(torch.device("cpu")).masks.shape == (0, 8, 8)


def test_a_picture_of_which_nothing_is_known() -> None:
    target = no_target(96, 160)
    assert {name: tuple(getattr(target, name).shape) for name in FIELDS} == {
        "boxes": (0, 4),
        "labels": (0,),
        "masks": (0, 96, 160),
        "crowd": (0, 4),
    }
    assert (target.boxes.dtype, target.labels.dtype) == (torch.float32, torch.int64)
    assert (target.masks.dtype, target.crowd.dtype) == (torch.bool, torch.float32)

"""The whole detector on a device other than the processor: it mixes no tensors of two devices, and does the same."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from src.detector.mask_rcnn import MaskRCNN
from src.ops.boxes import encode
from src.ops.masks import paste_masks
from src.structures.image_list import ImageList
from src.structures.target import Target
from tests.detector.dense import REGION, TERMS, in_joint_training, small_detector
from tests.detector.small import CPU
from tests.other_device import DEVICE, OtherDevice

WAITS = 68  # times that a first training step of two such images has the host wait for the device; later ones 59


@pytest.fixture(autouse=True)
def torchs_own_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both devices have the same: the processor's fast ones round otherwise."""
    monkeypatch.setattr("src.ops.convolution.has_nnpack", lambda: False)


def make_batch(device: torch.device) -> tuple[ImageList, list[Target]]:
    """Two pictures with two objects and a crowd region each."""
    pixels = torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 96, 160, dtype=torch.bool)
    masks[0, 10:60, 20:70] = masks[1, 30:90, 60:130] = True
    boxes = torch.tensor([[20.0, 10, 70, 60], [60, 30, 130, 90]])
    target = Target(boxes, torch.tensor([1, 2]), masks, torch.tensor([[100.0, 70, 140, 95]]))
    return ImageList(pixels.to(device), torch.tensor([REGION] * 2, device=device)), [target.to(device)] * 2


def make_detector(device: torch.device) -> MaskRCNN:
    return in_joint_training(small_detector()).to(device)


def learned(device: torch.device) -> dict[str, Tensor]:
    """Losses and gradients of a step of joint training."""
    detector = make_detector(device)
    torch.manual_seed(0)
    terms = detector.losses(*make_batch(device))
    torch.stack(list(terms.values())).sum().backward()
    gradients = {name: value.grad for name, value in detector.named_parameters() if value.grad is not None}
    return {name: value.detach().cpu() for name, value in {**terms, **gradients}.items()}


def test_a_training_step_is_the_same() -> None:
    expected = learned(CPU)
    with OtherDevice() as device:
        found = learned(DEVICE)
    assert expected.keys() == found.keys() > set(TERMS)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert sum(device.waits.values()) <= WAITS


def test_detections_are_the_same() -> None:
    expected = make_detector(CPU).eval().detect(make_batch(CPU)[0])[0]
    with torch.no_grad(), OtherDevice():
        found = make_detector(DEVICE).eval().detect(make_batch(DEVICE)[0])[0]
        pasted = paste_masks(found.masks, found.boxes, 96, 160).cpu()
        found = found.cpu()
    assert len(found) > 1
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.masks, expected.masks)
    torch.testing.assert_close(pasted, paste_masks(expected.masks, expected.boxes, 96, 160))


def test_the_other_device_refuses_what_a_gpu_would() -> None:
    with OtherDevice():
        there, here = torch.ones(3, device=DEVICE), torch.arange(3)
        with pytest.raises(RuntimeError, match="expected all tensors on the same device"):
            there + here
        assert (there[here] + torch.tensor(1.0)).tolist() == [2.0] * 3
        assert float(there.sum()) == 3


def test_waiting_for_the_device_is_noted_by_line() -> None:
    with OtherDevice() as device:
        encode(*torch.tensor([[[0.0, 0, 2, 2]]] * 2).to(DEVICE))
        there = torch.ones(1, device=DEVICE)
        assert there.tolist() == [1.0]  # the test's own wait
    ((line, count),) = device.waits.items()
    assert re.fullmatch(r"src/ops/boxes\.py:\d+ encode, a number", line)
    assert count == 1

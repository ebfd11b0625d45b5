"""Parity of masks, losses and the depthwise convolution, gradients included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from benchmarks.gpu.comparison import ROUNDING, Check, checks_of
from benchmarks.operators import random_boxes
from src.detector.depthwise import Depthwise
from src.ops.losses import class_loss, delta_loss, mask_loss, objectness_loss
from src.ops.masks import mask_targets, paste_masks

CANVAS = (160, 240)
BOXES, SIDE, MASKS = 20, 28, 3


def some_boxes(device: torch.device) -> Tensor:
    """Boxes whose sides are fractions of pixels, some of them over the border."""
    draw = torch.Generator().manual_seed(6)
    return (random_boxes(BOXES, draw, CANVAS, 200.0) + 8 * torch.randn(BOXES, 1, generator=draw)).to(device)


def probabilities(device: torch.device) -> Tensor:
    """A small grid per box."""
    return torch.rand(BOXES, SIDE, SIDE, generator=torch.Generator().manual_seed(7)).to(device)


def pasted_by_grid_sample(device: torch.device) -> list[Tensor]:
    """What pasting means, at the center of every pixel of the canvas."""
    x1, y1, x2, y2 = some_boxes(device).double()[:, :, None].unbind(1)  # [n, 1]
    y, x = (torch.arange(side, dtype=torch.float64, device=device) + 0.5 for side in CANVAS)
    down, across = 2 * (y - y1) / (y2 - y1) - 1, 2 * (x - x1) / (x2 - x1) - 1  # [n, h], [n, w]
    grid = torch.stack(torch.broadcast_tensors(across[:, None, :], down[:, :, None]), dim=-1)
    return [F.grid_sample(probabilities(device)[:, None].double(), grid, align_corners=False)[:, 0]]


def truth(device: torch.device) -> tuple[Tensor, Tensor]:
    """Masks of blobs on the canvas, and which of them each box has."""
    noise = torch.rand(MASKS, 1, CANVAS[0] + 8, CANVAS[1] + 8, generator=torch.Generator().manual_seed(8))
    blobs = F.avg_pool2d(noise, 9, stride=1)[:, 0] > 0.5
    return blobs.to(device), (torch.arange(BOXES) % MASKS).to(device)


def shares(device: torch.device) -> list[Tensor]:
    """Targets before they are rounded, as torchvision has them."""
    masks, assigned = truth(device)
    return [mask_targets(masks, some_boxes(device), assigned, SIDE, threshold=None, aligned=False)]


def torchvision_shares(device: torch.device) -> list[Tensor]:
    """The same by torchvision."""
    masks, assigned = truth(device)
    return [project_masks_on_boxes(masks, some_boxes(device), assigned, SIDE)]


def losses(device: torch.device, kind: torch.dtype) -> list[Tensor]:
    """The terms of random outputs, and their gradients."""
    draw = torch.Generator().manual_seed(9)
    shapes = {"objectness": (64,), "deltas": (16, 4), "classes": (32, 4), "masks": (8, SIDE, SIDE)}
    given = {name: torch.randn(shape, generator=draw).to(kind).to(device) for name, shape in shapes.items()}
    leaves = {name: value.requires_grad_() for name, value in given.items()}
    terms = list(_terms(leaves, draw).values())
    gradients = torch.autograd.grad(torch.stack(terms).sum(), list(leaves.values()))
    return [*terms, *gradients]


def _terms(outputs: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    device = outputs["masks"].device
    deltas = torch.randn(16, 4, generator=draw).to(device)
    classes = torch.randint(4, (32,), generator=draw).to(device)
    masks = torch.randint(2, (8, SIDE, SIDE), generator=draw).float().to(device)
    return {
        "objectness": objectness_loss(outputs["objectness"], 20),
        "deltas": delta_loss(outputs["deltas"], deltas, 64),
        "classes": class_loss(outputs["classes"], classes),
        "masks": mask_loss(outputs["masks"], masks),
    }


def depthwise(device: torch.device) -> list[Tensor]:
    """Output of a depthwise convolution, and gradients of its input, weight and bias."""
    torch.manual_seed(10)
    layer = Depthwise(nn.Conv2d(8, 8, 5, stride=2, groups=8)).to(device)
    pixels = torch.randn(2, 8, 20, 26).to(device).requires_grad_()
    found = layer(pixels)
    return [found, *torch.autograd.grad(found.square().mean(), [pixels, *layer.parameters()])]


def checks() -> Iterator[Check]:
    """All of them."""
    yield from checks_of(
        "paste_masks",
        lambda device: [paste_masks(probabilities(device), some_boxes(device), *CANVAS)],
        {"grid_sample": pasted_by_grid_sample},
        atol=1e-4,
    )
    yield from checks_of("mask_targets", shares, {"torchvision": torchvision_shares}, atol=1e-4)
    yield from checks_of("losses and gradients", lambda device: losses(device, torch.float32), {}, atol=1e-5)
    yield from checks_of(
        "losses and gradients",
        lambda device: losses(device, torch.bfloat16),
        {},
        precision="bf16",
        atol=1e-4,
        rtol=ROUNDING,
    )
    yield from checks_of("depthwise convolution and gradients", depthwise, {}, atol=1e-5)

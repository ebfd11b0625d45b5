"""A step of joint training against torchvision's: images a second, and the memory that each needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.flop import flop_of
from benchmarks.gpu.models import IMAGES, image_list, our_detector, pictures, settings, torchvision_detector
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.timing import Make, peak_bytes, stopwatch
from benchmarks.interleaved import BenchmarkCase, run_interleaved
from benchmarks.torchvision_baseline import targets_of
from benchmarks.training_step import step
from src.core.params import Params

ROUNDS = 20
THEIR_ROIS = 512  # per image, torchvision's default
Terms = Callable[[], dict[str, Tensor]]


def run(setting: Setting) -> Iterator[dict[str, Any]]:
    """Both in one precision on the same pictures, which are on the device already."""
    params, precision = settings(setting.small), setting.precision
    rois, masks = params.joint.box_batch_size_per_image, params.joint.mask_batch_size_per_image
    makes: dict[str, Make] = {
        f"ours, {precision}": lambda: ours(params, setting),
        f"torchvision, {precision}, {THEIR_ROIS} RoIs": lambda: theirs(params, setting, THEIR_ROIS),
        f"torchvision, {precision}, {rois} RoIs": lambda: theirs(params, setting, rois),
    }
    memory = peak_bytes(makes, setting.device)
    calls = {name: make() for name, make in makes.items()}
    height, width = params.prepare.height, params.prepare.padded_width
    case = BenchmarkCase(
        work="A step of joint training",
        conditions=f"{IMAGES} random pictures of {height}x{width} a step, {params.backbone.name} with "
        f"{params.joint.trainable_layers} trainable stages, all parts learn, AdamW; ours draws {rois} RoIs per image "
        f"and at most {masks} masks, torchvision masks of all positive RoIs; reading is left out",
        implementations=calls,
        images=dict.fromkeys(calls, IMAGES),
    )
    entry = run_interleaved(case, setting.rounds(ROUNDS), stopwatch(setting.device))
    least = {name: {"flop": flop_of(call) / IMAGES, "precision": precision} for name, call in calls.items()}
    yield {**entry, "least": least, "peak_bytes": memory}


def ours(params: Params, setting: Setting) -> Callable[[], None]:
    """Our detector's step."""
    model = our_detector(params, setting.device).train()
    images, targets = pictures(params, IMAGES, setting.device)
    batch = image_list(images)
    return _steps(model, lambda: model.losses(batch, targets), setting)


def theirs(params: Params, setting: Setting, rois: int) -> Callable[[], None]:
    """A step of torchvision's detector with so many RoIs per image."""
    model = torchvision_detector(params, setting.device).train()
    model.roi_heads.fg_bg_sampler.batch_size_per_image = rois
    images, found = pictures(params, IMAGES, setting.device)
    targets = [targets_of(target) for target in found]
    return _steps(model, lambda: model(list(images), targets), setting)


def _steps(model: torch.nn.Module, terms: Terms, setting: Setting) -> Callable[[], None]:
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-5, fused=True)

    def call() -> None:
        with setting.autocast():
            losses = terms()
        step(model, optimizer, losses)

    return call

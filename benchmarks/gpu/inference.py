"""The whole detector on one picture after another against torchvision's: images a second, memory, agreement."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.agreement import compare, half_pixel_boxes
from benchmarks.detecting import detect, detect_by_torchvision
from benchmarks.flop import flop_of
from benchmarks.gpu.models import image_list, our_detector, pictures, settings, torchvision_detector
from benchmarks.gpu.parity import exact_float32
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.timing import Make, peak_bytes, stopwatch
from benchmarks.interleaved import BenchmarkCase, run_interleaved
from src.core.params import Params
from src.structures.detections import Detections

ROUNDS = 20
IMAGES = 2  # a call


def run(setting: Setting) -> Iterator[dict[str, Any]]:
    """Both in one precision, with the same weights and rules; the agreement is taken in float32."""
    params, precision = settings(setting.small), setting.precision
    makes: dict[str, Make] = {
        f"ours, {precision}": lambda: ours(params, setting),
        f"torchvision, {precision}": lambda: theirs(params, setting),
        f"ours, {precision}, masks pasted on the processor": lambda: ours(params, setting, on_processor=True),
    }
    memory = peak_bytes(makes, setting.device)
    calls = {name: make() for name, make in makes.items()}
    height, width = params.prepare.height, params.prepare.padded_width
    case = BenchmarkCase(
        work="Inference",
        conditions=f"one random picture of {height}x{width}, untrained heads, which find as many objects as the rules "
        f"allow, {params.features.proposals} proposals, masks pasted",
        implementations=calls,
        agreement=agreement(params, setting.device),
        images=dict.fromkeys(calls, IMAGES),
    )
    entry = run_interleaved(case, setting.rounds(ROUNDS), stopwatch(setting.device))
    least = {name: {"flop": flop_of(call) / IMAGES, "precision": precision} for name, call in calls.items()}
    yield {**entry, "least": least, "peak_bytes": memory}


def ours(params: Params, setting: Setting, *, on_processor: bool = False) -> Callable[[], list[Detections]]:
    """Our detector on all pictures."""
    detector = our_detector(params, setting.device).eval()
    images = [image_list(image[None]) for image in pictures(params, IMAGES, setting.device)[0]]
    return lambda: detect(detector, images, setting.autocast, on_processor=on_processor)


def theirs(params: Params, setting: Setting) -> Callable[[], Any]:
    """The same by torchvision's."""
    model = torchvision_detector(params, setting.device).eval()
    planes = [image_list(image[None]).tensors.contiguous() for image in pictures(params, IMAGES, setting.device)[0]]

    def call() -> Any:
        with setting.autocast():
            return detect_by_torchvision(model, planes)

    return call


def agreement(params: Params, device: torch.device) -> str:
    """How far the two lie apart in whole float32, where torchvision's RoIAlign is half-pixel correct too."""
    images = [image_list(image[None]) for image in pictures(params, IMAGES, device)[0]]
    planes = [image.tensors.contiguous() for image in images]
    with exact_float32(), half_pixel_boxes():
        found = detect(our_detector(params, device).eval(), images, contextlib.nullcontext)
        return compare(found, detect_by_torchvision(torchvision_detector(params, device).eval(), planes))

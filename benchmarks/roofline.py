"""How fast the machine multiplies, and what share of it the convolution-heavy steps reach."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.flop import flop_of
from benchmarks.steps import examples
from src.core import paths
from src.core.params import Params
from src.core.runtime import make_fabric
from src.data.batches import Batcher
from src.data.prepared import read_classes
from src.detector.backbones import NORMALIZATIONS
from src.detector.checkpoints import load_backbone
from src.plain_rpn.network import PlainRpnNetwork
from stages.backbone.__main__ import start_fine_tuning

SIDE = 2048  # of the square matrices
SECONDS = 2.0  # for each measurement


def peaks() -> dict[str, float]:
    """GFLOP a second of square matrix products, by precision."""
    found = {}
    for name, kind in (("bf16", torch.bfloat16), ("float32", torch.float32)):
        a, b = (torch.randn(SIDE, SIDE).to(kind) for _ in range(2))
        found[name] = 2 * SIDE**3 / best_seconds(functools.partial(torch.mm, a, b)) / 1e9
    return found


def best_seconds(call: Callable[[], Any]) -> float:
    """The quickest of as many calls as fit into `SECONDS`, after one to warm up."""
    call()
    end, best = time.perf_counter() + SECONDS, float("inf")
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def shares(params: Params, peak: dict[str, float]) -> list[dict[str, Any]]:
    """GFLOP, seconds and share of the bf16 peak of the steps that convolutions dominate."""
    fabric = make_fabric(params.runtime)
    pictures = examples("train", 2)
    batcher = Batcher(NORMALIZATIONS[params.backbone.name], fabric.device)
    image = batcher.images(pictures[:1])
    network = PlainRpnNetwork().to(memory_format=torch.channels_last).to(fabric.device)
    backbone, rpn = load_backbone(params, fabric.device)
    detector = start_fine_tuning(params, read_classes(paths.PREPARED), fabric.device)
    detector.backbone.load_state_dict(backbone.state_dict())
    detector.rpn.load_state_dict(rpn.state_dict())

    def part_a() -> None:
        with fabric.autocast():
            outputs = network(image.tensors)
        backward(network, outputs)

    def dense() -> None:
        with torch.no_grad(), fabric.autocast():
            rpn.predict(backbone(image.tensors))

    def fine_tuning() -> None:
        detector.train()
        with fabric.autocast():
            terms = detector.losses(*batcher(pictures))
        backward(detector, list(terms.values()))

    steps = {
        "part (a), forward and backward, 1 image": part_a,
        "backbone, FPN and RPN head, forward, 1 image": dense,
        "backbone fine-tuning, forward and backward, 2 images": fine_tuning,
    }
    entries = []
    for name, call in steps.items():
        work, seconds = flop_of(call) / 1e9, best_seconds(call)
        share = work / seconds / peak["bf16"]
        entries.append({"step": name, "gflop": work, "seconds": seconds, "share_of_bf16_peak": share})
    return entries


def backward(module: nn.Module, outputs: Sequence[Tensor]) -> None:
    """Gradients of the outputs' sum, thrown away."""
    module.zero_grad(set_to_none=True)
    torch.stack([one.float().sum() for one in outputs]).sum().backward()

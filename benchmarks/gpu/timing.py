"""Seconds and memory on a device, which works on while the host has long gone further."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.interleaved import Stopwatch, wall_seconds

Make = Callable[[], Callable[[], Any]]  # builds what a call needs, and gives the call


def stopwatch(device: torch.device) -> Stopwatch:
    """Between two events of the device, the first on an idle one; on the processor the clock's."""
    return event_seconds if device.type == "cuda" else wall_seconds


def event_seconds(call: Callable[[], Any]) -> float:
    """Seconds of the current GPU's stream from before a call until all that it asked for is done."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def peak_bytes(makes: Mapping[str, Make], device: torch.device) -> dict[str, int | None]:
    """The most memory that each call's tensors take, weights included, while no other implementation is there.

    A first call does not count: it makes the optimizer's state and what libraries keep.

    Returns:
        Bytes by name; None on a processor, which counts none.
    """
    return {name: _peak(make) if device.type == "cuda" else None for name, make in makes.items()}


def _peak(make: Make) -> int:
    free_memory()
    before = torch.cuda.memory_allocated()
    call = make()
    call()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    del call
    free_memory()
    return peak


def free_memory() -> None:
    """Gives a GPU back what nobody holds any more."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()

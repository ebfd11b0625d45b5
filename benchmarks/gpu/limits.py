"""What the card can do at best: bytes that it copies and operations of its matrix products, a second, measured."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu.setting import Setting
from benchmarks.gpu.timing import stopwatch

COPIED, SIDE, TIMES = 2**30, 8192, 20  # bytes, rows of the square matrices, calls of which the quickest counts
SMALL_COPIED, SMALL_SIDE = 2**20, 128


def run(setting: Setting) -> Iterator[dict[str, Any]]:
    """Bandwidth, reading and writing counted; then the rate of each precision."""
    seconds = stopwatch(setting.device)
    count = SMALL_COPIED if setting.small else COPIED
    source = torch.zeros(count, dtype=torch.uint8, device=setting.device)
    target = torch.empty_like(source)
    quickest = min(seconds(functools.partial(target.copy_, source)) for _ in range(TIMES))
    yield {"limit": "bytes", "a_second": 2 * count / quickest, "how": f"copying {count / 2**20:.0f} MiB"}
    side = SMALL_SIDE if setting.small else SIDE
    for name, kind in (("bf16", torch.bfloat16), ("float32", torch.float32)):
        first, second = (torch.randn(side, side, device=setting.device).to(kind) for _ in range(2))
        quickest = min(seconds(functools.partial(torch.mm, first, second)) for _ in range(TIMES))
        yield {"limit": name, "a_second": 2 * side**3 / quickest, "how": f"multiplying square matrices of {side}"}

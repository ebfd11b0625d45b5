"""What all sections of the script are told."""

from __future__ import annotations

import contextlib
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.operators import FULL, Sizes, bf16_autocast

SMALL = Sizes((96, 128), images=2, proposals=6, channels=8)


@dataclass(frozen=True)
class Setting:
    """Where the sections run, and how much.

    Attributes:
        device: a GPU, or the processor.
        small: sizes that a processor manages in seconds: they test the script and measure nothing.
        ends: when the time budget is spent, on `time.monotonic`'s clock.
        precision: bf16, or float32 where the device has no bf16 in hardware: detectors run in it.
    """

    device: torch.device
    small: bool
    ends: float
    precision: str

    @property
    def sizes(self) -> Sizes:
        """How much work the timed operators are."""
        return SMALL if self.small else FULL

    @property
    def seconds_left(self) -> float:
        """Of the budget; negative where it is spent."""
        return self.ends - time.monotonic()

    def rounds(self, count: int) -> int:
        """How often a case is timed: `count` times, or twice on small sizes."""
        return 2 if self.small else count

    def autocast(self) -> AbstractContextManager[Any]:
        """PyTorch's mixed precision, for both detectors; none in float32."""
        return bf16_autocast(self.device) if self.precision == "bf16" else contextlib.nullcontext()

"""A check of parity: what is compared with what, and how far the two may lie apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.operators import CPU

Outputs = Sequence[Tensor]
ROUNDING = 2.0**-8  # of bf16: one rounding, as a share of the value


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        operator: of ours.
        precision: of its input.
        against: the other implementation.
        ours: its outputs on a device.
        theirs: what they should be.
        atol: allowed difference.
        rtol: allowed beside that, as a share of the expected value.
    """

    operator: str
    precision: str
    against: str
    ours: Callable[[torch.device], Outputs]
    theirs: Callable[[torch.device], Outputs]
    atol: float = 0.0
    rtol: float = 0.0


def checks_of(
    operator: str,
    ours: Callable[[torch.device], Outputs],
    theirs: Mapping[str, Callable[[torch.device], Outputs]],
    *,
    precision: str = "float32",
    atol: float = 0.0,
    rtol: float = 0.0,
) -> Iterator[Check]:
    """An operator against others on the device, by their names, and against itself on the processor."""
    for name, outputs in {**theirs, "ours on the processor": lambda _: ours(CPU)}.items():
        yield Check(operator, precision, name, ours, outputs, atol, rtol)


def measure(check: Check, device: torch.device) -> dict[str, Any]:
    """The check's entry in gpu.json; `difference` is the largest, None where it is no number."""
    found, expected = check.ours(device), check.theirs(device)
    difference, alike = 0.0, len(found) == len(expected)
    for one, other in zip(found, expected, strict=False):
        apart, within = compare(one.detach().cpu().double(), other.detach().cpu().double(), check.atol, check.rtol)
        difference, alike = max(difference, apart), alike and within
    return {
        "operator": check.operator,
        "precision": check.precision,
        "against": check.against,
        "difference": difference if math.isfinite(difference) else None,
        "allowed": {"absolute": check.atol, "relative": check.rtol},
        "alike": alike,
    }


def compare(found: Tensor, expected: Tensor, atol: float, rtol: float) -> tuple[float, bool]:
    """The largest absolute difference, infinite where shapes differ or a number is none; and whether all are within."""
    if found.shape != expected.shape:
        return math.inf, False
    apart = (found - expected).abs().nan_to_num(nan=math.inf, posinf=math.inf)
    return float(apart.max()) if apart.numel() else 0.0, bool((apart <= atol + rtol * expected.abs()).all())

"""Benchmark cases: ours and its baselines run in turns, so that whatever slows the machine slows them all.

A ratio is taken within each round, where the implementations ran seconds apart; the median over the rounds stands for
the case, the quartiles for its spread. The first round warms up and does not count.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

Stopwatch = Callable[[Callable[[], Any]], float]  # the seconds that a call takes


@dataclass(frozen=True)
class BenchmarkCase:
    """One piece of work.

    Attributes:
        work: what is done.
        conditions: sizes, counts, what is left out.
        implementations: calls by name, ours first, then the baselines; each name says the precision.
        images: how many images a call of each implementation treats, by name; its seconds are divided by them. 1 where
            a name is missing.
        goal: how many times faster than the first baseline ours is to be.
        agreement: how far the results lie apart, in words with a number.
    """

    work: str
    conditions: str
    implementations: Mapping[str, Callable[[], Any]]
    goal: float | None = None
    agreement: str = ""
    images: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def from_values(cls, values: Sequence[float]) -> Spread:
        """Of one value or more."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


def wall_seconds(call: Callable[[], Any]) -> float:
    """Seconds from a call's start to its return."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def run_interleaved(case: BenchmarkCase, rounds: int, stopwatch: Stopwatch = wall_seconds) -> dict[str, Any]:
    """Runs the implementations in turns, `rounds` times after one warm-up; the entry of results.json."""
    seconds: dict[str, list[float]] = {name: [] for name in case.implementations}
    for turn in tqdm(range(rounds + 1), desc=case.work, unit="round"):
        for name, call in case.implementations.items():
            taken = stopwatch(call)
            if turn:
                seconds[name].append(taken / case.images.get(name, 1))
    ours, *baselines = seconds
    ratios = {
        name: [theirs / own for own, theirs in zip(seconds[ours], seconds[name], strict=True)] for name in baselines
    }
    return {
        "work": case.work,
        "conditions": case.conditions,
        "seconds": {name: dataclasses.asdict(Spread.from_values(values)) for name, values in seconds.items()},
        "ratios": {name: dataclasses.asdict(Spread.from_values(values)) for name, values in ratios.items()},
        "goal": case.goal,
        "agreement": case.agreement,
        "rounds": rounds,
    }

"""Contests: ours and its peers take turns in one process, so that whatever slows the machine slows them all.

A ratio is taken within each round, where the contestants ran seconds apart; the median over the rounds stands for the
contest, the quartiles for its spread. The first round warms up and does not count.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm


@dataclass(frozen=True)
class BenchmarkCase:
    """One piece of work.

    Attributes:
        work: what is done.
        conditions: sizes, counts, what is left out.
        contestants: calls by name, ours first; each name says the precision.
        images: how many images a call of each contestant treats, by name; its seconds are divided by them. 1 where a
            name is missing.
        goal: how many times faster than the first peer ours is to be.
        agreement: how far the results lie apart, in words with a number.
    """

    work: str
    conditions: str
    contestants: Mapping[str, Callable[[], Any]]
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
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value or more."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


def hold(contest: BenchmarkCase, rounds: int) -> dict[str, Any]:
    """Runs the contestants `rounds` times in turns after one warm-up; the entry of results.json."""
    seconds: dict[str, list[float]] = {name: [] for name in contest.contestants}
    for turn in tqdm(range(rounds + 1), desc=contest.work, unit="round"):
        for name, call in contest.contestants.items():
            start = time.perf_counter()
            call()
            if turn:
                seconds[name].append((time.perf_counter() - start) / contest.images.get(name, 1))
    ours, *peers = seconds
    ratios = {
        peer: dataclasses.asdict(Spread.of([b / a for a, b in zip(seconds[ours], seconds[peer], strict=True)]))
        for peer in peers
    }
    return {
        "work": contest.work,
        "conditions": contest.conditions,
        "seconds": {name: dataclasses.asdict(Spread.of(values)) for name, values in seconds.items()},
        "ratios": ratios,
        "goal": contest.goal,
        "agreement": contest.agreement,
        "rounds": rounds,
    }

"""Benchmark cases: turns, ratios within a round, the warm-up left out, and the page that shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import interleaved
from benchmarks.interleaved import BenchmarkCase, Spread, run_interleaved
from benchmarks.page import case_rows, goal, time_of, write_page


class Clock:
    """Time that only the implementations move on."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, []

    def takes(self, name: str, *seconds: float) -> Any:
        """A call that takes these seconds, one after another."""
        left = list(seconds)

        def call() -> None:
            self.calls.append(name)
            self.now += left.pop(0)

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(interleaved.time, "perf_counter", lambda: made.now)
    return made


def case(clock: Clock) -> BenchmarkCase:
    calls = {"ours": clock.takes("ours", 9, 1, 2, 1), "theirs": clock.takes("theirs", 99, 8, 8, 12)}
    return BenchmarkCase("work", "sizes", calls, goal=3.0, agreement="alike", images={"theirs": 2})


def test_they_take_turns_and_ratios_are_of_one_round(clock: Clock) -> None:
    entry = run_interleaved(case(clock), 3)
    assert clock.calls == ["ours", "theirs"] * 4
    assert entry["seconds"]["ours"] == {"median": 1.0, "low": 1.0, "high": 1.5}
    assert entry["seconds"]["theirs"]["median"] == 4.0  # two images a call
    assert entry["ratios"] == {"theirs": {"median": 4.0, "low": 3.0, "high": 5.0}}  # of 4, 2 and 6
    assert entry["rounds"] == 3


def test_one_value_has_no_spread() -> None:
    assert Spread.from_values([2.0]) == Spread(2.0, 2.0, 2.0)


def test_the_page_says_what_was_met_and_missed(clock: Clock, tmp_path: Path) -> None:
    entry = run_interleaved(case(clock), 3)
    assert case_rows(entry) == [
        ("work", "ours", "theirs", "1.00 s", "4.00 s", "4.0 (3.0 to 5.0)", "3: met"),
    ]
    assert goal(3.0, 2.99) == "3: missed"
    assert goal(None, 1.0) == ""
    assert time_of(0.0123) == "12.3 ms"
    assert time_of(0.000123) == "123.0 µs"
    steps = [{"step": "a step", "gflop": 120.0, "seconds": 0.5, "share_of_bf16_peak": 0.25}]
    results = {
        "cases": [entry],
        "conditions": {"threads": 2},
        "peak_gflop_a_second": {"bf16": 960.0, "float32": 100.0},
        "steps": steps,
        "accuracies": {"bf16": {"box_ap50": 0.72, "mask_ap": None}, "float32": {"box_ap50": 0.7255, "mask_ap": 0.1}},
    }
    write_page(results, tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "* **work**: sizes; 3 rounds; alike." in text
    assert "| a step | 120 | 0.500 | 25 % |" in text
    assert "960 GFLOP a second in bf16" in text
    assert "| precision | box AP50 | mask AP |" in text
    assert "| bf16 | 0.720 |  |" in text
    assert "| float32 | 0.726 | 0.100 |" in text

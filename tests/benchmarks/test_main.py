"""`python -m benchmarks`: all cases or some of them, results that stay, and the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.interleaved import BenchmarkCase
from src.core.files import read_json
from src.core.params import Params


def make_case(work: str, made: list[str]) -> BenchmarkCase:
    made.append(work)
    return BenchmarkCase(work, "sizes", {"ours": lambda: None, "theirs": lambda: None})


@pytest.fixture
def made(finished: Params, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cases made, one operator, the evaluation and one step; the rest of the measurements is given."""
    works: list[str] = []
    monkeypatch.setattr(benchmarks.operators, "cases", lambda: iter([lambda: make_case("An operator", works)]))
    monkeypatch.setattr(benchmarks, "evaluation", lambda: make_case("An evaluation", works))
    monkeypatch.setattr(benchmarks.steps, "cases", lambda _: iter([lambda: make_case("A step", works)]))
    monkeypatch.setattr(benchmarks.one_stage, "cases", lambda _: iter([lambda: make_case("One stage", works)]))
    peak = {"bf16": 2.0, "float32": 1.0}
    share = [{"step": "forward", "gflop": 4.0, "seconds": 4.0, "share_of_bf16_peak": 0.5}]
    monkeypatch.setattr(benchmarks, "peaks", lambda: peak)
    monkeypatch.setattr(benchmarks, "shares", lambda params, given: share if given is peak else [])
    monkeypatch.setattr(benchmarks, "accuracies", lambda _: {"bf16": {"box_ap": 0.5}, "float32": {"box_ap": 0.25}})
    return works


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, int]:
    """The rounds of each case in the results."""
    monkeypatch.setattr("sys.argv", ["benchmarks", *arguments])
    benchmarks.main()
    return {entry["work"]: entry["rounds"] for entry in read_json(benchmarks.RESULTS)["cases"]}


def test_all_cases_then_one_of_them_again(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    benchmarks.RESULTS.unlink(missing_ok=True)
    assert run(monkeypatch, "--rounds", "2") == {"An operator": 2, "An evaluation": 2, "A step": 2, "One stage": 2}
    assert made == ["An operator", "An evaluation", "A step", "One stage"]
    text = Path("benchmarks/README.md").read_text(encoding="utf-8")
    assert "| forward | 4 | 4.000 | 50 % |" in text
    assert "| An operator | ours | theirs |" in text
    assert "box_head.epochs 1, mask_head.epochs 1, joint.scheme end_to_end" in text
    assert run(monkeypatch, "--rounds", "3", "--only", "STEP") == {
        "An operator": 2,
        "An evaluation": 2,
        "A step": 3,
        "One stage": 2,
    }
    assert read_json(benchmarks.RESULTS)["accuracies"]["bf16"] == {"box_ap": 0.5}  # stays

"""The operators' cases on a small canvas: every implementation runs, and ours does what the baseline does."""

from __future__ import annotations

import pytest

from benchmarks import coco_evaluation, operators
from benchmarks.interleaved import BenchmarkCase, run_interleaved


@pytest.fixture
def cases(monkeypatch: pytest.MonkeyPatch) -> dict[str, BenchmarkCase]:
    monkeypatch.setattr(coco_evaluation, "EVALUATED", 4)
    small = operators.Sizes((96, 128), images=2, proposals=6, channels=3)
    return {case.work: case for case in (make() for make in [*operators.cases(small), coco_evaluation.evaluation])}


def test_every_implementation_runs(cases: dict[str, BenchmarkCase]) -> None:
    assert len(cases) == 9
    for work, case in cases.items():
        ours, *baselines = run_interleaved(case, 1)["seconds"]
        assert ours.startswith("ours"), work
        assert baselines, work


def test_ours_does_what_the_baselines_do(cases: dict[str, BenchmarkCase]) -> None:
    for cells in (7, 14):
        for passes in ("forward", "forward and backward"):
            text = cases[f"RoIAlign P={cells}, {passes}"].agreement
            assert float(text.rpartition(": ")[2]) < 1e-5
    alike, _, anchors = cases["Matching and encoding"].agreement.split()[:3]
    assert alike == anchors
    assert cases["COCO evaluation, box and mask"].agreement == "largest difference of AP: 0.0e+00"


def test_anchors_are_those_of_the_whole_pyramid() -> None:
    assert "217,413 anchors" in operators.matching().conditions  # P2..P5 and the pooled level of 800 x 1088


@pytest.mark.parametrize("kernel", [3, 5])
def test_both_convolutions_are_one(kernel: int) -> None:
    case = operators.convolution((16, 32), kernel, 4, operators.Sizes((160, 160)))
    assert case.work == f"Convolution {kernel} x {kernel}"
    assert float(case.agreement.split()[1]) < 1e-4
    ours, theirs = (call() for call in case.implementations.values())
    assert ours.shape == theirs.shape == (1, 32, 40, 40)

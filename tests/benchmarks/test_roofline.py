"""The machine's peak, and the steps that are measured against it."""

from __future__ import annotations

import pytest
from torch import nn

from benchmarks import roofline
from src.core.params import Params


def test_peaks_are_measured_in_both_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "SIDE", 32)
    monkeypatch.setattr(roofline, "SECONDS", 0.01)
    assert {name: value > 0 for name, value in roofline.peaks().items()} == {"bf16": True, "float32": True}


def test_steps_and_their_shares_of_the_peak(finished: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[set[str]] = []
    backward = roofline.backward

    def noting(module: nn.Module, outputs: object) -> None:
        backward(module, outputs)
        trained.append({name.split(".")[0] for name, value in module.named_parameters() if value.grad is not None})

    monkeypatch.setattr(roofline, "backward", noting)
    monkeypatch.setattr(roofline, "SECONDS", 0.01)
    entries = roofline.shares(finished, {"bf16": 2.0})
    part_a, dense, fine_tuning = entries
    assert part_a["step"].startswith("part (a), forward and backward")
    assert dense["step"].endswith("forward, 1 image")
    assert fine_tuning["step"].endswith("2 images")
    for one in entries:
        assert one["share_of_bf16_peak"] == pytest.approx(one["gflop"] / one["seconds"] / 2)
    scale = 96 * 160 / (800 * 1088)  # of the canvas whose numbers benchmarks/README.md has
    assert part_a["gflop"] == pytest.approx(83.08 * scale, rel=0.05)
    assert dense["gflop"] == pytest.approx(185.2 * scale, rel=0.05)
    assert fine_tuning["gflop"] > 0
    parts = {frozenset(names) for names in trained}
    assert parts == {
        frozenset({"backbone", "intermediate", "classifier", "regressor"}),
        frozenset({"backbone", "rpn", "roi_heads"}),
    }

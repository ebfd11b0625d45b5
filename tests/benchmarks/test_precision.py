"""AP in both precisions: one detector, the test split, the laboratory's own evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import precision
from src.core.params import Params
from src.core.params_file import load_params
from src.evaluation.predictor import Predictor


def test_precisions_differ_in_nothing_else(finished: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    detect = Predictor.detect

    def noting(predictor: Predictor, *arguments: object) -> object:
        found = detect(predictor, *arguments)
        seen.append((predictor.fabric._precision.precision, len(found)))
        return found

    monkeypatch.setattr(Predictor, "detect", noting)
    found = precision.accuracies(finished)
    assert load_params(Path("params.yaml")) == finished
    assert [name for name, _ in seen] == ["bf16-mixed"] * 2 + ["32-true"] * 2
    assert all(count > 0 for _, count in seen)
    assert list(found) == ["bf16", "float32"]
    for one in found.values():
        assert list(one) == ["box_ap50", "box_ap", "mask_ap50", "mask_ap"]
        assert all(value is not None and 0 <= value <= 1 for value in one.values())

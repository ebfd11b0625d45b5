"""The page of one process and several: medians over rounds, ratios to the first setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import processes


def test_a_setting_is_the_median_of_its_rounds() -> None:
    rounds = [{"step_seconds": seconds, "pictures_a_second": 10 * seconds} for seconds in (3.0, 1.0, 2.0)]
    assert processes.summary(2, 4, rounds) == {
        "processes": 2,
        "threads": 4,
        "step_seconds": 2.0,
        "pictures_a_second": 20.0,
    }


def test_the_page_compares_with_the_first_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PAGE", tmp_path / "page.md")
    rows = [(1, 2, 1.5, 80.0), (2, 2, 1.25, 150.4)]
    names = ("processes", "threads", "step_seconds", "pictures_a_second")
    settings = [dict(zip(names, row, strict=True)) | {"gradient_bytes": 57_600_000} for row in rows]
    processes.write_page({"settings": settings, "conditions": {"device": "CPU", "batch_size": 2}})
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| 1 | 2 | 1.50 s | 1.00 | none | 80 |" in text
    assert "| 2 | 2 | 1.25 s | 1.20 | 58 MB | 150 |" in text
    assert "a minibatch of 2 images" in text
    assert "Measured on: device CPU, batch_size 2." in text

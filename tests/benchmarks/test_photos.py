"""The comparison on photos: which points it keeps, torchvision's learning rate, the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import photos
from src.core.files import write_json
from src.core.params import load_params


def point(**other: Any) -> dict[str, Any]:
    interval = {"estimate": 0.25, "low": 0.125, "high": 0.5, "resamples": 9}
    scheme = {"layers": 0, "passes": 4, "learning_rate": 5e-4, "views": 2, "epochs": [5, 5]}
    reached = {"box_ap50": 0.25, "mask_ap50": None, "box_ap": 0.0625, "mask_ap": 0.03125, "seconds": 90.0}
    intervals = {"ap50_interval": {"box": interval, "mask": None}}
    measured = {"precision": "bf16", "machine": {"threads": 2, "vectors": "AVX512"}}
    return {**scheme, "border": "remove", **measured, **reached, **intervals, **other}


def test_a_repeated_scheme_takes_the_place_of_its_old_point_only() -> None:
    points = [point(), point(layers=2), point(border="clip"), point(precision="float32"), point(epochs=[3, 3])]
    assert photos.other_than(point(seconds=1.0, box_ap50=0.5), points, photos.SCHEME) == points[1:]


def test_minutes_are_those_of_the_run_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = load_params()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    names = ("box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75", "ap50_interval", "proposal_recall")
    write_json(Path("metrics/evaluate.json"), dict.fromkeys(names, 0.25))
    older = {"seconds": dict.fromkeys(photos.STAGES, 900.0)}
    write_json(Path("metrics/summary.json"), older)  # of the run before, until the report is made
    for seconds, name in enumerate(photos.STAGES, start=1):
        write_json(Path(".cache/seconds") / f"{name}.json", seconds)
    assert photos.ours(params)["seconds"] == 1 + 2 + 3 + 4


def test_the_rate_warms_up_to_its_peak_and_falls_to_nothing() -> None:
    assert photos.learning_rate(0.0) == 0.0
    assert photos.learning_rate(photos.WARM_UP / 2) == pytest.approx(0.5)
    assert photos.learning_rate(photos.WARM_UP) == pytest.approx(1.0)
    assert photos.learning_rate((1 + photos.WARM_UP) / 2) == pytest.approx(0.5)
    assert photos.learning_rate(1.0) == pytest.approx(0.0)


def test_the_table_has_every_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "RESULTS", tmp_path / "photos.json")
    monkeypatch.setattr(photos, "PAGE", tmp_path / "photos.md")
    slow = {"threads": 2, "vectors": "AVX2"}
    points = [point(), point(passes=3, machine=slow), point(passes=2)]
    theirs = point(layers=2, schedule=4, passes=3, machine=slow)
    data = {"train_images": 3, "test_images": 2}
    photos.write_results({"ours": points, "torchvision": [theirs], "data": data})
    numbers = "bf16 | 1.5 | 0.250 (0.125 to 0.500) | 0.000 | 0.062 | 0.031 |"
    text = (tmp_path / "photos.md").read_text()
    for passes, machine in ((4, 1), (3, 2), (2, 1)):
        scheme = f"ours, boxes across the border removed | 0 | {passes} at 0.0005, then 2 to keep features | 5 + 5"
        assert f"| {scheme} | {numbers} {machine} |" in text
    assert f"| torchvision | 2 | 3 of 4 |  | {numbers} 2 |" in text
    assert "Machine 1: threads 2, vectors AVX512." in text
    assert "Machine 2: threads 2, vectors AVX2." in text

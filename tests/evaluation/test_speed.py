"""Seconds an image: the median without the warm-up, and a queued run's beside its own other seconds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.core.files import read_json
from src.data.prepared import Example
from src.evaluation import speed
from src.evaluation.predictor import Predictor
from src.evaluation.speed import FOLDER, time_detector


class Slow(Predictor[Any]):
    """Takes as many seconds for each image in turn as it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seconds: list[float] = []

    def detect(self, example: Example) -> Any:
        self.now += self.seconds.pop(0)


def timed(name: str, predictor: Slow, *seconds: float) -> None:
    predictor.seconds = list(seconds)
    time_detector(name, predictor, [object.__new__(Example) for _ in seconds])


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slow:
    for name in ("main", "copy"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    predictor = Slow()
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: predictor.now))
    return predictor


def test_the_median_is_of_all_but_the_first(slow: Slow) -> None:
    timed("mask_rcnn", slow, 50.0, 2.0, 9.0, 3.0)
    assert read_json(FOLDER / "mask_rcnn.json") == 3.0


def test_a_queued_run_leaves_the_main_workspace_s_alone(slow: Slow, tmp_path: Path) -> None:
    timed("one_stage", slow, 1.0, 2.0)
    assert (tmp_path / "copy/.cache/seconds/an_image/one_stage.json").is_file()
    assert list((tmp_path / "main").iterdir()) == []


def test_of_one_image_nothing_is_said(slow: Slow) -> None:
    timed("one_stage", slow, 1.0)
    assert not FOLDER.exists()

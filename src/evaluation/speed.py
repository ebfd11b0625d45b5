"""How long a detector takes for an image, on the machine at hand. A timing is no result: no stage tracks it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from typing import Any, Final

from src.core.files import write_json
from src.core.stage import SECONDS
from src.data.prepared import Example
from src.evaluation.predictor import Predictor

FOLDER: Final = SECONDS / "an_image"  # a queued run's own: beside another one it is slower, and has other settings
TIMED: Final = 8  # images, after one that warms up and does not count


def time_detector(name: str, predictor: Predictor[Any], examples: Iterable[Example]) -> None:
    """Writes the median of seconds for single images, from the prepared image to the detections on the canvas.

    Args:
        name: of the detector, and the file.
        predictor: the detector.
        examples: the first one only warms up; of one alone nothing is written.
    """
    seconds = []
    for example in examples:
        start = time.perf_counter()
        predictor.detect(example)
        seconds.append(time.perf_counter() - start)
    if len(seconds) > 1:
        write_json(FOLDER / f"{name}.json", round(statistics.median(seconds[1:]), 4))

"""Stage `predict` (task 18): the detector on one's own pictures, drawn and as json.

`python -m stages.predict` takes every picture in `pictures/`; `python -m stages.predict my.jpg` takes that one and
writes `predictions/my.jpg.png` and `predictions/my.jpg.json`. Several may be named, and folders. With `--detector
one_stage` before them it is the one-stage detector's boxes, without masks.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from src.core import paths
from src.core.errors import InputError, invalid, one_line
from src.core.files import write_json
from src.core.params import Params
from src.core.runtime import environment_info
from src.core.stage import run
from src.evaluation.instances import Instances
from src.evaluation.predictor import Predictor
from src.evaluation.rle import to_xywh
from src.figures.predictions import draw_prediction
from src.sources.hold_out import read_pictures
from src.sources.named_pictures import find_pictures, result_stem, short_name
from src.sources.pictures import list_pictures
from src.structures.classes import CLASS_NAMES
from src.structures.detector import DETECTORS, MASK_RCNN

logger = logging.getLogger(__name__)

PLOTS = paths.plots("predict")


def main(params: Params) -> None:
    """Every picture of the folder."""
    records: list[dict[str, Any]] = []

    def write(file: Path, picture: np.ndarray, found: Instances) -> None:
        draw_prediction(picture, found, PLOTS / f"{short_name(file.name)}.png")
        records.append(record(file.name, picture, found))

    unreadable = predict_each(list_pictures(paths.OWN_PICTURES), params, write)
    PLOTS.mkdir(parents=True, exist_ok=True)  # DVC expects it, pictures or none
    write_json(paths.OWN_DETECTIONS, records)
    facts = {"pictures": len(records), "detections": sum(len(entry["detections"]) for entry in records)}
    left_out = {file.name: error.detail for file, error in unreadable.items()}
    conditions = environment_info(params.runtime)
    write_json(paths.metrics("predict"), {**facts, "unreadable": left_out, "conditions": conditions})


def predict_named(names: Sequence[str], params: Params, detector: str = MASK_RCNN) -> None:
    """Pictures from anywhere, and those of folders.

    Args:
        names: as on the command line; each may name several, with spaces between.
        params: of the run.
        detector: which one looks at them.

    Raises:
        InputError: none of them can be read, or a folder has none.
    """

    def write(file: Path, picture: np.ndarray, found: Instances) -> None:
        target = result_stem(file, paths.SINGLE_PREDICTIONS)
        draw_prediction(picture, found, target.with_name(f"{target.name}.png"))
        write_json(target.with_name(f"{target.name}.json"), record(file.name, picture, found))
        tqdm.write(f"{len(found)} found: {one_line(target)}.png, {one_line(target)}.json")

    predict_each(find_pictures(names), params, write, detector)


def read_command_line(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The detector and the pictures that are named. Only the first word can be an option: a file may have any name.

    Raises:
        InputError: there is no such detector, or no picture is named for it.
    """
    option, equals, name = words[0].partition("=")
    if option != "--detector":
        return MASK_RCNN, words
    name, *names = [name, *words[1:]] if equals else [*words[1:], ""]
    if name not in DETECTORS:
        raise invalid("--detector", " or ".join(DETECTORS), f"'{name}'")
    if not any(names):
        raise InputError("--detector: expected a picture or a folder after it, found none")
    return name, [text for text in names if text]


def predict_from(words: Sequence[str], params: Params) -> None:
    """What the command line says."""
    detector, names = read_command_line(words)
    predict_named(names, params, detector)


def predict_each(
    files: Sequence[Path],
    params: Params,
    write: Callable[[Path, np.ndarray, Instances], None],
    detector: str = MASK_RCNN,
) -> dict[Path, InputError]:
    """Predicts one file after another, since all at once may not fit the memory, and gives each picture to `write`.

    Returns:
        Those that cannot be read, and why; each is named in the log.

    Raises:
        InputError: none of them can be read; nothing is written then.
    """
    predictor: Predictor[Any] | None = None
    unreadable: dict[Path, InputError] = {}
    for file in tqdm(files, desc="predict", unit="picture", disable=len(files) == 1):
        try:
            pictures = read_pictures(file)
        except InputError as error:
            unreadable[file] = error
            continue
        predictor = predictor or Predictor.load(params, detector=detector)
        for name, picture in pictures:
            write(file.with_name(name), picture, predictor.predict(picture))
    if unreadable and len(unreadable) == len(files):
        raise next(iter(unreadable.values()))
    for reason in unreadable.values():
        logger.warning("predict: %s; passed over", reason)
    return unreadable


def record(name: str, picture: np.ndarray, found: Instances) -> dict[str, Any]:
    """One picture's entry: size, and class, score, box (x, y, width, height) and, if known, mask of each detection."""
    rows = zip(found.labels.tolist(), found.scores.tolist(), to_xywh(found.boxes), strict=True)
    detections: list[dict[str, Any]] = [
        {"class": CLASS_NAMES[label], "score": score, "bbox": box} for label, score, box in rows
    ]
    for entry, mask in zip(detections, found.masks or [], strict=found.masks is not None):
        entry["segmentation"] = mask
    return {"name": name, "height": picture.shape[0], "width": picture.shape[1], "detections": detections}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run("predict", lambda params: predict_from(sys.argv[1:], params))
    else:
        run("predict", main)

"""Stage `predict` (task 18): the detector on one's own pictures, drawn and as json.

`python -m stages.predict` takes every picture in `pictures/`; `python -m stages.predict my.jpg` takes that one and
writes `predictions/my.jpg.png` and `predictions/my.jpg.json`. Several may be named, and folders, and videos. For
a labeling tool (`predict.export`) all go into one file, `data/export.json` or `predictions/export.json`. With
`--detector one_stage` before the names it is the one-stage detector's boxes, without masks.
"""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("predict: stages run from the project's root as: python -m stages.predict")

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from src.core import paths
from src.core.errors import InputError, invalid, one_line
from src.core.files import write_json
from src.core.params import Params
from src.core.runtime import environment_info
from src.core.stage import run
from src.evaluation.explorer import describe_found, surest_first
from src.evaluation.exports import coco_instances, label_studio_tasks
from src.evaluation.instances import Instances
from src.evaluation.predictor import Predictor
from src.evaluation.rle import to_xywh
from src.figures.album import Album
from src.figures.predictions import draw_prediction
from src.sources.hold_out import read_pictures
from src.sources.named_pictures import find_pictures, names_below, place_of, result_stem, short_name
from src.sources.pictures import list_pictures
from src.sources.video import VIDEO_SUFFIXES, read_frames
from src.structures.classes import Classes
from src.structures.detector import DETECTORS, MASK_RCNN

logger = logging.getLogger(__name__)

PLOTS = paths.plots("predict")
EXPLORER_ROOM = 1_500_000  # bytes of the report that its explorer may take for these pictures
Writer: TypeAlias = Callable[[Path, np.ndarray, Instances, Classes], None]  # of one picture


def main(params: Params) -> None:
    """Every picture of the folder."""
    records: dict[Path, dict[str, Any]] = {}
    files = list_pictures(paths.OWN_PICTURES)
    album = Album(EXPLORER_ROOM, len(files))

    def write(file: Path, picture: np.ndarray, found: Instances, classes: Classes) -> None:
        draw_prediction(picture, found, classes, PLOTS / f"{short_name(file.name)}.png")
        records[file] = record(file.name, picture, found, classes)
        known = {"name": file.name, "height": picture.shape[0], "width": picture.shape[1]}
        album.add(picture, {**known, "objects": [], "detections": describe_found(surest_first(found)), "proposals": []})

    seen = predict_each(files, params, write)
    album.write(paths.OWN_EXPLORER)
    PLOTS.mkdir(parents=True, exist_ok=True)  # DVC expects it, pictures or none
    write_json(paths.OWN_EXPORT, exported(records, seen.classes, params))
    write_json(paths.OWN_DETECTIONS, list(records.values()))
    facts = {"pictures": len(records), "detections": sum(len(entry["detections"]) for entry in records.values())}
    left_out = {file.name: error.detail for file, error in seen.unreadable.items()}
    conditions = environment_info(params.runtime)
    write_json(paths.metrics("predict"), {**facts, "unreadable": left_out, "conditions": conditions})


def predict_named(names: Sequence[str], params: Params, detector: str = MASK_RCNN) -> None:
    """Pictures from anywhere, and those of folders.

    Args:
        names: as on the command line; each may name several, with spaces between.
        params: of the run.
        detector: which one looks at them.

    Raises:
        InputError: none of them can be read, or a folder has none; masks are to be exported of a detector without.
    """
    if params.predict.export != "none" and detector != MASK_RCNN:
        raise invalid("predict.export", f"'none' with {detector}, which finds no masks", f"'{params.predict.export}'")
    records: dict[Path, dict[str, Any]] = {}

    def write(file: Path, picture: np.ndarray, found: Instances, classes: Classes) -> None:
        target = result_stem(file, paths.SINGLE_PREDICTIONS)
        draw_prediction(picture, found, classes, target.with_name(f"{target.name}.png"))
        entry = record(file.name, picture, found, classes)
        write_json(target.with_name(f"{target.name}.json"), entry)
        if params.predict.export != "none":  # else nothing is kept, of a long video for example
            records[file] = entry
        tqdm.write(f"{len(found)} found: {one_line(target)}.png, {one_line(target)}.json")

    seen = predict_each(find_pictures(names), params, write, detector)
    if params.predict.export != "none":
        write_json(paths.SINGLE_EXPORT, exported(records, seen.classes, params))
        tqdm.write(f"for {params.predict.export}: {paths.SINGLE_EXPORT}")


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


@dataclass(frozen=True)
class Seen:
    """What a call has looked at.

    Attributes:
        unreadable: files that cannot be read, and why.
        classes: of the detector; None where there was no picture to load it for.
    """

    unreadable: dict[Path, InputError]
    classes: Classes | None


def predict_each(files: Sequence[Path], params: Params, write: Writer, detector: str = MASK_RCNN) -> Seen:
    """Predicts one file after another, since all at once may not fit the memory, and gives each picture to `write`.

    Files that cannot be read are named in the log.

    Raises:
        InputError: none of them can be read; nothing is written then.
    """
    predictor: Predictor[Any] | None = None
    unreadable: dict[Path, InputError] = {}
    for file in tqdm(files, desc="predict", unit="picture", disable=len(files) == 1):
        for name, picture in pictures_of(file, params.predict.frame_seconds, unreadable):
            predictor = predictor or Predictor.load(params, detector=detector)
            write(file.with_name(name), picture, predictor.predict(picture), predictor.classes)
    if unreadable and predictor is None:
        raise next(iter(unreadable.values()))
    for reason in unreadable.values():
        logger.warning("predict: %s; passed over", reason)
    return Seen(unreadable, predictor.classes if predictor else None)


def pictures_of(
    file: Path, seconds: float, unreadable: dict[Path, InputError]
) -> Iterator[tuple[str, UInt8[np.ndarray, "h w 3"]]]:
    """The pictures of a file with their names, and a video's frames; what cannot be read is noted in `unreadable`."""
    try:
        yield from read_frames(file, seconds) if file.suffix.lower() in VIDEO_SUFFIXES else read_pictures(file)
    except InputError as error:
        unreadable[file] = error


def record(name: str, picture: np.ndarray, found: Instances, classes: Classes) -> dict[str, Any]:
    """One picture's entry: size, and class, score, box (x, y, width, height) and, if known, mask of each detection."""
    rows = zip(found.labels.tolist(), found.scores.tolist(), to_xywh(found.boxes), strict=True)
    detections: list[dict[str, Any]] = [
        {"class": classes.name_of(label), "score": score, "bbox": box} for label, score, box in rows
    ]
    for entry, mask in zip(detections, found.masks or [], strict=found.masks is not None):
        entry["segmentation"] = mask
    return {"name": name, "height": picture.shape[0], "width": picture.shape[1], "detections": detections}


def exported(records: Mapping[Path, dict[str, Any]], classes: Classes | None, params: Params) -> Any:
    """The tree that `predict.export` asks for, an empty list without one.

    Args:
        records: by the picture's file. Those that are no file of their own, hold-out images, cannot be labeled.
        classes: of the detector, where there is a record.
        params: of the run.
    """
    files = [file for file in records if file.is_file()]
    if params.predict.export == "coco":
        names = classes.names if classes else ()
        named = zip(files, names_below(files), strict=True)
        return coco_instances([records[file] | {"name": name} for file, name in named], names)
    if params.predict.export == "label_studio":
        return label_studio_tasks([records[file] | {"name": place_of(file).as_posix()} for file in files])
    return []


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run("predict", lambda params: predict_from(sys.argv[1:], params))
    else:
        run("predict", main)

"""Stage `predict` (task 18): the detector on one's own pictures, drawn and as json.

`python -m stages.predict` takes every picture in `pictures/`; `python -m stages.predict my.jpg` takes that one and
writes `predictions/my.jpg.png` and `predictions/my.jpg.json`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from src.core import paths
from src.core.files import write_json
from src.core.params import Params
from src.core.runtime import environment_info
from src.core.stage import run
from src.evaluation.instances import Instances
from src.evaluation.predictor import Predictor
from src.evaluation.rle import decode_masks, to_xywh
from src.figures.base import draw_scene, new_figure, save_figure
from src.sources.pictures import list_pictures, read_picture
from src.structures.classes import CLASS_NAMES

PLOTS = paths.plots("predict")


def main(params: Params) -> None:
    """Every picture of the folder."""
    files = list_pictures(paths.OWN_PICTURES)
    for file in files:
        read_picture(file)  # a broken one is refused before anything is written; all at once may not fit the memory
    predictor = Predictor.load(params)
    PLOTS.mkdir(parents=True, exist_ok=True)
    records = []
    for file in tqdm(files, desc="predict", unit="picture"):
        picture = read_picture(file)
        found = predictor.predict(picture)
        draw(picture, found, PLOTS / f"{file.name}.png")
        records.append(record(file.name, picture, found))
    write_json(paths.OWN_DETECTIONS, records)
    facts = {"pictures": len(records), "detections": sum(len(entry["detections"]) for entry in records)}
    write_json(paths.metrics("predict"), {**facts, "conditions": environment_info(params.runtime)})


def predict_one(file: Path, params: Params) -> None:
    """One picture from anywhere."""
    picture = read_picture(file)
    found = Predictor.load(params).predict(picture)
    target = paths.SINGLE_PREDICTIONS / file.name
    draw(picture, found, target.with_name(f"{file.name}.png"))
    write_json(target.with_name(f"{file.name}.json"), record(file.name, picture, found))
    sys.stdout.write(f"{len(found)} found: {target}.png, {target}.json\n")


def draw(picture: np.ndarray, found: Instances, path: Path) -> None:
    """The picture with masks, boxes, classes and scores."""
    height, width = picture.shape[:2]
    figure, axes = new_figure(width=8, height=max(2.0, min(12.0, 8 * height / width)))
    masks = decode_masks(found.masks or [], height, width)
    draw_scene(axes[0, 0], picture, found.boxes, found.labels, found.scores, masks)
    save_figure(figure, path)


def record(name: str, picture: np.ndarray, found: Instances) -> dict[str, Any]:
    """One picture's entry: size, and class, score, box (x, y, width, height) and mask of each detection."""
    rows = zip(found.labels.tolist(), found.scores.tolist(), to_xywh(found.boxes), found.masks or [], strict=True)
    detections = [
        {"class": CLASS_NAMES[label], "score": score, "bbox": box, "segmentation": mask}
        for label, score, box, mask in rows
    ]
    return {"name": name, "height": picture.shape[0], "width": picture.shape[1], "detections": detections}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run("predict", lambda params: predict_one(Path(sys.argv[1]), params))
    else:
        run("predict", main)

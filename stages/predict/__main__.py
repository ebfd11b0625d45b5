"""Stage `predict` (task 18): the detector on one's own pictures, drawn and as json.

`python -m stages.predict` takes every picture in `pictures/`; `python -m stages.predict my.jpg` takes that one and
writes `predictions/my.jpg.png` and `predictions/my.jpg.json`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from src.core.files import write_json
from src.core.params import Params
from src.core.runtime import environment_info, make_fabric
from src.core.stage import run
from src.data.letterbox import Letterbox
from src.data.prepared import Example
from src.detector.checkpoints import load_detector
from src.evaluation.instances import Detections
from src.evaluation.rle import decode_masks, to_xywh
from src.evaluation.second_stage import Predictor, to_source
from src.figures.base import draw_scene, new_figure, save_figure
from src.sources.pictures import list_pictures, read_picture
from src.structures.classes import CLASS_NAMES

PICTURES = Path("pictures")
PLOTS = Path("plots/predict")
SINGLE = Path("predictions")


def work(params: Params) -> None:
    """Every picture of the folder."""
    paths = list_pictures(PICTURES)
    for path in paths:
        read_picture(path)  # a broken one is refused before anything is written; all at once may not fit the memory
    runner = make_runner(params)
    PLOTS.mkdir(parents=True, exist_ok=True)
    records = []
    for path in tqdm(paths, desc="predict", unit="picture"):
        picture = read_picture(path)
        found = find(runner, picture, params)
        draw(picture, found, PLOTS / f"{path.name}.png")
        records.append(record(path.name, picture, found))
    write_json(Path("data/pictures.json"), records)
    total = sum(len(entry["detections"]) for entry in records)
    facts = {"pictures": len(records), "detections": total, "names": [entry["name"] for entry in records]}
    write_json(Path("metrics/predict.json"), {**facts, "conditions": environment_info(params.runtime)})


def one(path: Path, params: Params) -> None:
    """One picture from anywhere."""
    picture = read_picture(path)
    found = find(make_runner(params), picture, params)
    draw(picture, found, SINGLE / f"{path.name}.png")
    write_json(SINGLE / f"{path.name}.json", record(path.name, picture, found))
    sys.stdout.write(f"{len(found)} found: {SINGLE / path.name}.png, {SINGLE / path.name}.json\n")


def make_runner(params: Params) -> Predictor:
    """The trained detector on the device."""
    fabric = make_fabric(params.runtime)
    return Predictor(load_detector(params, fabric.device), fabric, params.backbone.name, params.evaluate)


def find(runner: Predictor, picture: np.ndarray, params: Params) -> Detections:
    """What is in a picture, in its own pixels, above `predict.score_threshold`."""
    letterbox = Letterbox.of(params.prepare, *picture.shape[:2])
    none = torch.zeros(0, 4)
    labels = torch.zeros(0, dtype=torch.int64)
    image = torch.from_numpy(letterbox.image_to_canvas(picture)).permute(2, 0, 1)
    masks = torch.zeros(0, *image.shape[1:], dtype=torch.bool)
    example = Example(0, "picture", image, none, labels, masks, labels.bool(), none, labels)
    found = to_source(runner.find(example, letterbox), letterbox, params.evaluate.mask_threshold)
    return found.keep(found.scores >= params.predict.score_threshold)


def draw(picture: np.ndarray, found: Detections, path: Path) -> None:
    """The picture with masks, boxes, classes and scores."""
    height, width = picture.shape[:2]
    figure, axes = new_figure(width=8, height=max(2.0, min(12.0, 8 * height / width)))
    masks = decode_masks(found.masks or [], height, width)
    draw_scene(axes[0, 0], picture, found.boxes, found.labels, found.scores, masks)
    save_figure(figure, path)


def record(name: str, picture: np.ndarray, found: Detections) -> dict[str, Any]:
    """One picture's entry: size, and class, score, box (x, y, width, height) and mask of each detection."""
    rows = zip(found.labels.tolist(), found.scores.tolist(), to_xywh(found.boxes), found.masks or [], strict=True)
    detections = [
        {"class": CLASS_NAMES[label], "score": score, "bbox": box, "segmentation": mask}
        for label, score, box, mask in rows
    ]
    return {"name": name, "height": picture.shape[0], "width": picture.shape[1], "detections": detections}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run("predict", lambda params: one(Path(sys.argv[1]), params))
    else:
        run("predict", work)

"""Stage `prepare`: pictures, boxes and masks moved to the 800 x 1088 canvas; one picture with two objects (task 9)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor
from tqdm import tqdm

from src.core.files import write_json
from src.core.params import Params
from src.core.stage import run
from src.data.dataset import DatasetFile
from src.data.letterbox import Frame
from src.data.normalize import Normalisation, normalise
from src.data.prepared import Example, PreparedFile, write_prepared
from src.data.selection import two_object_row
from src.figures.data import draw_prepared
from src.structures.classes import CLASS_NAMES

DATASET = Path("data/dataset.h5")
PREPARED = Path("data/prepared.h5")
METRICS = Path("metrics/prepare.json")
FIGURE = Path("plots/prepare/two_objects.png")


def prepare(params: Params) -> None:
    """Writes the prepared file, then shows and describes its picture with two objects."""
    with DatasetFile(DATASET) as dataset:
        write_prepared(PREPARED, dataset, params.prepare, tqdm(range(len(dataset)), desc="prepare", unit="image"))
    normalisation = Normalisation.of(params.prepare)
    with PreparedFile(PREPARED) as prepared:
        example = prepared.example(two_object_row(prepared))
        normalised = normalise(example.image[None], normalisation, torch.tensor([prepared.frame.content]))[0]
        draw_prepared(FIGURE, example, normalised)
        write_json(METRICS, describe(prepared.frame, normalisation, example.annotated(), normalised))


def describe(
    frame: Frame, normalisation: Normalisation, example: Example, normalised: Float32[Tensor, "3 h w"]
) -> dict[str, Any]:
    """The canvas, the normalisation and the picture in the figure, in numbers."""
    return {
        "height": frame.height,
        "width": frame.content_width,
        "padded_width": frame.padded_width,
        "left": frame.left,
        "right": frame.padded_width - frame.left - frame.content_width,
        "scale_x": frame.scale_x,
        "scale_y": frame.scale_y,
        "mean": normalisation.mean,
        "std": normalisation.std,
        "minimum": round(float(normalised.min()), 4),
        "maximum": round(float(normalised.max()), 4),
        "example": {
            "name": example.name,
            "labels": [CLASS_NAMES[label] for label in example.labels.tolist()],
            "boxes": [[round(value, 2) for value in box] for box in example.boxes.tolist()],
        },
    }


if __name__ == "__main__":
    run("prepare", prepare)

"""Stage `prepare`: pictures, boxes and masks moved to the 800 x 1088 canvas; one picture with two objects (task 9)."""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("prepare: stages run from the project's root as: python -m stages.prepare")

from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor
from tqdm import tqdm

from src.core import paths
from src.core.files import write_json
from src.core.params import Params
from src.core.stage import run
from src.data.dataset import DatasetFile
from src.data.normalize import Normalization, normalize
from src.data.prepared import Example, PreparedFile, write_prepared
from src.data.selection import two_object_row
from src.figures.data import draw_prepared
from src.structures.classes import Classes


def main(params: Params) -> None:
    """Writes the prepared file, then shows and describes its picture with two objects."""
    with DatasetFile(paths.DATASET) as dataset:
        rows = tqdm(range(len(dataset)), desc="prepare", unit="image")
        vanished = write_prepared(paths.PREPARED, dataset, params.prepare, rows)
    normalization = Normalization.from_params(params.prepare)
    with PreparedFile(paths.PREPARED) as prepared:
        example = prepared.example(two_object_row(prepared))
        normalized = normalize(example.image[None], normalization, torch.tensor([example.letterbox.region]))[0]
        draw_prepared(paths.plots("prepare") / "two_objects.png", example, normalized, prepared.classes)
        facts = describe(normalization, example, normalized, prepared.classes)
        write_json(paths.metrics("prepare"), {**facts, "vanished_objects": vanished})


def describe(
    normalization: Normalization, example: Example, normalized: Float32[Tensor, "3 h w"], classes: Classes
) -> dict[str, Any]:
    """The normalization, and the picture in the figure on its canvas, in numbers."""
    letterbox = example.letterbox
    return {
        "height": letterbox.height,
        "width": letterbox.resized_width,
        "padded_width": letterbox.padded_width,
        "left": letterbox.left,
        "right": letterbox.padded_width - letterbox.left - letterbox.resized_width,
        "top": letterbox.top,
        "bottom": letterbox.height - letterbox.top - letterbox.resized_height,
        "scale_x": letterbox.scale_x,
        "scale_y": letterbox.scale_y,
        "mean": normalization.mean,
        "std": normalization.std,
        "minimum": round(float(normalized.min()), 4),
        "maximum": round(float(normalized.max()), 4),
        "example": {
            "name": example.name,
            "labels": [classes.name_of(label) for label in example.target.labels.tolist()],
            "boxes": [[round(value, 2) for value in box] for box in example.target.boxes.tolist()],
        },
    }


if __name__ == "__main__":
    run("prepare", main)

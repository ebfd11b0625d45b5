"""What a detector did on each test image: the types, and the files in which stage `detect` hands them to `evaluate`.

Letters: r proposals of an image, p proposals that cover an object, h halves of objects.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from src.core.errors import invalid
from src.core.files import atomic_write
from src.evaluation.funnel import STEPS
from src.evaluation.instances import Instances

Parsed = TypeVar("Parsed")

# What json, torch and the types here raise over a file of another making; an error of memory is not among them.
BROKEN_FILE: Final = (OSError, AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class SecondStageAnalysis:
    """What the detector did on one image.

    Attributes:
        name: of the image.
        found: detections under each rule for boxes across the border, by its name, in the picture's own pixels.
        proposals: the RPN's best, which the box head sees, in the picture's own pixels.
        truth: class of each proposal by its overlap with the ground truth, 0 for background, -1 in crowd regions.
        predicted: most probable class of each proposal.
        iou_before: of proposals that cover an object, with it.
        iou_after: the same after the regressor of the object's class.
        halves_before: IoU of halves of the ground truth boxes with the whole, four per box.
        halves_after: the same after the regressor.
        lost_at: the step that loses each object, crowd regions left out, unless a detection takes it.
    """

    name: str
    found: dict[str, Instances]
    proposals: Float[Tensor, "r 4"]
    truth: Int64[Tensor, " r"]
    predicted: Int64[Tensor, " r"]
    iou_before: Float[Tensor, " p"]
    iou_after: Float[Tensor, " p"]
    halves_before: Float[Tensor, " h"]
    halves_after: Float[Tensor, " h"]
    lost_at: tuple[str, ...]


@dataclass(frozen=True)
class ImageDetections:
    """What a detector without a second stage found in one image.

    Attributes:
        name: of the image.
        found: in the picture's own pixels, under the border rule of the params.
    """

    name: str
    found: Instances


def write_analyses(path: Path, analyses: Iterable[SecondStageAnalysis | ImageDetections]) -> None:
    """Writes one JSON object per line and image, as they come; numbers keep every bit. Atomic."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for analysis in analyses:
            file.write(json.dumps(_tree(analysis), allow_nan=False) + "\n")


def read_analyses(path: Path) -> Iterator[SecondStageAnalysis]:
    """Reads what `write_analyses` wrote, image by image.

    Raises:
        InputError: the file is missing or of another making.
    """
    return _read(path, _analysis)


def read_detections(path: Path) -> Iterator[ImageDetections]:
    """The same of a detector without a second stage.

    Raises:
        InputError: the file is missing or of another making.
    """
    return _read(path, lambda tree: ImageDetections(str(tree["name"]), _instances(tree["found"])))


def _read(path: Path, parse: Callable[[dict[str, Any]], Parsed]) -> Iterator[Parsed]:
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield parse(json.loads(line))
    except BROKEN_FILE as error:
        raise invalid(path, "a file that stage `detect` wrote", error) from None


def _tree(value: Any) -> Any:
    """Dataclasses, tensors and dicts as JSON."""
    if dataclasses.is_dataclass(value):
        return {field.name: _tree(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _tree(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, Tensor) else value


def _analysis(tree: dict[str, Any]) -> SecondStageAnalysis:
    found = {border: _instances(one) for border, one in tree["found"].items()}
    columns = {name: _floats(tree[name]) for name in ("iou_before", "iou_after", "halves_before", "halves_after")}
    labels = {name: _labels(tree[name]) for name in ("truth", "predicted")}
    lost_at = tuple(tree["lost_at"])
    if not set(lost_at) <= set(STEPS):
        raise ValueError(f"the steps {sorted(set(lost_at) - set(STEPS))}")
    return SecondStageAnalysis(tree["name"], found, _boxes(tree["proposals"]), **labels, **columns, lost_at=lost_at)


def _instances(tree: dict[str, Any]) -> Instances:
    proposals = None if tree["proposals"] is None else _boxes(tree["proposals"])
    labels, scores = _labels(tree["labels"]), _floats(tree["scores"])
    return Instances(_boxes(tree["boxes"]), labels, scores, tree["masks"], proposals)


def _boxes(rows: list[list[float]]) -> Float[Tensor, "n 4"]:
    return _floats(rows).reshape(-1, 4)


def _floats(values: list[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _labels(values: list[int]) -> Int64[Tensor, " n"]:
    return torch.tensor(values, dtype=torch.int64)

"""The prepared file: every picture on the padded canvas, with its boxes and masks moved along (task 9).

Pictures stay uint8: normalization is the last step at loading (`src.data.normalize`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from src.core.errors import invalid
from src.core.params import PrepareParams
from src.data.dataset import DatasetFile
from src.data.letterbox import Letterbox
from src.data.scene_file import SceneFile, write_scenes
from src.structures.classes import Classes
from src.structures.sample import Sample
from src.structures.target import Target


@dataclass(frozen=True)
class Example:
    """One picture on the canvas, h x w, with its ground truth.

    Attributes:
        index: its row in the prepared file.
        name: as in the dataset.
        image: RGB, a view of channels-last memory.
        target: its objects, crowd regions apart.
        seed: of what losses draw of it; None: nothing has been said.
        is_spare: whether another process learns from it, and this one only computes along.
    """

    index: int
    name: str
    image: UInt8[Tensor, "3 h w"]
    target: Target
    seed: int | None = None
    is_spare: bool = False


def flip(example: Example, letterbox: Letterbox) -> Example:
    """The picture mirrored left to right where it lies; the padding stays as it is."""
    left, _, right, _ = letterbox.region
    shift = int(left + right) - letterbox.padded_width  # 0 where the padding is the same on both sides
    target = flip_boxes(example.target, letterbox)
    image, masks = (t.flip(-1).roll(shift, -1) if shift else t.flip(-1) for t in (example.image, target.masks))
    return dataclasses.replace(example, image=image, target=dataclasses.replace(target, masks=masks))


def flip_boxes(target: Target, letterbox: Letterbox) -> Target:
    """Boxes and crowd regions mirrored where the picture lies; masks as they were."""
    left, _, right, _ = letterbox.region
    boxes, crowd = (
        torch.stack([left + right - b[:, 2], b[:, 1], left + right - b[:, 0], b[:, 3]], 1)
        for b in (target.boxes, target.crowd)
    )
    return dataclasses.replace(target, boxes=boxes, crowd=crowd)


def write_prepared(path: Path, dataset: DatasetFile, prepare: PrepareParams, rows: Iterable[int] | None = None) -> None:
    """Moves a dataset's pictures to the canvas, one in memory at a time.

    Args:
        path: the file to be made or replaced, atomically.
        dataset: where the pictures come from.
        prepare: the canvas.
        rows: which pictures, e.g. under a progress bar; all by default.
    """
    letterbox = Letterbox.from_params(prepare, *dataset.size)
    samples = (to_canvas(dataset[row], letterbox) for row in (range(len(dataset)) if rows is None else rows))
    attributes = {"frame": dataclasses.asdict(letterbox), "classes": dataset.classes.names}
    write_scenes(path, samples, (letterbox.height, letterbox.padded_width), attributes)


def to_canvas(sample: Sample, letterbox: Letterbox) -> Sample:
    """A picture and its objects, moved to the canvas."""
    return dataclasses.replace(
        sample,
        image=letterbox.image_to_canvas(sample.image),
        boxes=letterbox.boxes_to_canvas(sample.boxes),
        masks=letterbox.masks_to_canvas(sample.masks),
        unlabeled_boxes=letterbox.boxes_to_canvas(sample.unlabeled_boxes),
    )


def read_classes(path: Path) -> Classes:
    """The classes of a prepared file.

    Raises:
        InputError: the file is missing, broken or of another making.
    """
    with PreparedFile(path) as prepared:
        return prepared.classes


class PreparedFile(SceneFile):
    """Reads a prepared file: `len`, `example(i)`, `letterbox`, `indices(split)`, and the columns of `SceneFile`.

    Attributes:
        letterbox: how each picture lies on the canvas.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if "frame" not in self.attributes:
            self.close()
            raise invalid(path, "a prepared file", "a dataset file")
        self.letterbox = Letterbox(**self.attributes["frame"])

    def example(self, index: int, *, masks: bool = True) -> Example:
        """Reads one picture; without its masks if they are not needed."""
        image = torch.from_numpy(self.image(index)).permute(2, 0, 1)
        return Example(index, self.names[index], image, self.target(index, masks=masks))

    def target(self, index: int, *, masks: bool = True) -> Target:
        """A picture's ground truth, without reading the picture."""
        height, width = self.size
        boxes, crowd = torch.tensor(self.boxes(index)), torch.tensor(self.crowd(index))
        stored = (
            torch.from_numpy(self.masks(index))[~crowd] if masks else torch.zeros((0, height, width), dtype=torch.bool)
        )
        return Target(boxes[~crowd], torch.tensor(self.labels(index))[~crowd], stored, boxes[crowd])

    def examples(self, indices: Iterable[int], *, masks: bool = True) -> Iterator[Example]:
        """Reads pictures one after the other."""
        return (self.example(index, masks=masks) for index in indices)

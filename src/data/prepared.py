"""The prepared file: every picture on the padded canvas, with its boxes and masks moved along (task 9).

Pictures stay uint8: normalization is the last step at loading (`src.data.normalize`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from src.core.errors import invalid
from src.core.params import PrepareParams
from src.data.dataset import DatasetFile
from src.data.letterbox import Letterbox
from src.data.scene_file import SceneFile, write_scenes
from src.structures.sample import Sample


@dataclass(frozen=True)
class Example:
    """One picture on the canvas, h x w, with n objects (crowd regions among them) and k hidden ones.

    Attributes:
        index: its row in the prepared file.
        name: as in the dataset.
        image: RGB, a view of channels-last memory.
        boxes: x1 y1 x2 y2 in canvas pixels.
        labels: 1 vehicle, 2 person, 3 animal.
        masks: n of them, or none at all where they were not read.
        crowd: regions of many objects, neither object nor background.
        hidden_boxes: objects that the ground truth leaves out, canvas pixels.
        hidden_labels: their classes.
    """

    index: int
    name: str
    image: UInt8[Tensor, "3 h w"]
    boxes: Float32[Tensor, "n 4"]
    labels: Int64[Tensor, " n"]
    masks: Bool[Tensor, "m h w"]
    crowd: Bool[Tensor, " n"]
    unlabeled_boxes: Float32[Tensor, "k 4"]
    unlabeled_labels: Int64[Tensor, " k"]

    def annotated(self) -> Example:
        """The same picture without its crowd regions."""
        if not self.crowd.any():
            return self
        keep = ~self.crowd
        masks = self.masks[keep] if len(self.masks) else self.masks
        return dataclasses.replace(
            self, boxes=self.boxes[keep], labels=self.labels[keep], masks=masks, crowd=self.crowd[keep]
        )


def flip(example: Example, letterbox: Letterbox) -> Example:
    """The picture mirrored left to right where it lies; the padding stays as it is."""
    left, _, right, _ = letterbox.content
    shift = int(left + right) - letterbox.padded_width  # 0 where the padding is the same on both sides
    boxes, hidden = (
        torch.stack([left + right - b[:, 2], b[:, 1], left + right - b[:, 0], b[:, 3]], 1)
        for b in (example.boxes, example.unlabeled_boxes)
    )
    image, masks = (t.flip(-1).roll(shift, -1) if shift else t.flip(-1) for t in (example.image, example.masks))
    return dataclasses.replace(example, image=image, masks=masks, boxes=boxes, unlabeled_boxes=hidden)


def write_prepared(path: Path, dataset: DatasetFile, prepare: PrepareParams, rows: Iterable[int] | None = None) -> None:
    """Moves a dataset's pictures to the canvas, one in memory at a time.

    Args:
        path: the file to be made or replaced, atomically.
        dataset: where the pictures come from.
        prepare: the canvas.
        rows: which pictures, e.g. under a progress bar; all by default.
    """
    letterbox = Letterbox.of(prepare, *dataset.size)
    samples = (to_canvas(dataset[row], letterbox) for row in (range(len(dataset)) if rows is None else rows))
    write_scenes(path, samples, (letterbox.height, letterbox.padded_width), {"frame": dataclasses.asdict(letterbox)})


def to_canvas(sample: Sample, letterbox: Letterbox) -> Sample:
    """A picture and its objects, moved to the canvas."""
    return dataclasses.replace(
        sample,
        image=letterbox.image_to_canvas(sample.image),
        boxes=letterbox.boxes_to_canvas(sample.boxes),
        masks=letterbox.masks_to_canvas(sample.masks),
        unlabeled_boxes=letterbox.boxes_to_canvas(sample.unlabeled_boxes),
    )


class PreparedFile(SceneFile):
    """Reads a prepared file: `len`, `example(i)`, `frame`, `indices(split)`, and the columns of `SceneFile`.

    Attributes:
        frame: how each picture lies on the canvas.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if "frame" not in self.attributes:
            self.close()
            raise invalid(path, "a prepared file", "a dataset file")
        self.letterbox = Letterbox(**self.attributes["frame"])

    def example(self, index: int, *, masks: bool = True) -> Example:
        """Reads one picture; without its masks if they are not needed."""
        height, width = self.size
        stored = torch.from_numpy(self.masks(index)) if masks else torch.zeros((0, height, width), dtype=torch.bool)
        return Example(
            index=index,
            name=self.names[index],
            image=torch.from_numpy(self.image(index)).permute(2, 0, 1),
            boxes=torch.tensor(self.boxes(index)),
            labels=torch.tensor(self.labels(index)),
            masks=stored,
            crowd=torch.tensor(self.crowd(index)),
            unlabeled_boxes=torch.tensor(self.unlabeled_boxes(index)),
            unlabeled_labels=torch.tensor(self.unlabeled_labels(index)),
        )

    def examples(self, indices: Iterable[int], *, masks: bool = True) -> Iterator[Example]:
        """Reads pictures one after the other."""
        return (self.example(index, masks=masks) for index in indices)

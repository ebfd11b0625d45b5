"""The prepared file: every picture on the padded canvas, with its boxes and masks moved along (task 9).

Pictures stay uint8: normalization is the last step at loading (`src.data.normalize`). Images and masks are stored one
chunk each, so that any of them is read alone; masks are packed to bits.

| dataset | content |
| --- | --- |
| images | uint8 [N, h, w, 3], h x w being the canvas |
| masks | uint8 [M, h * w / 8], bits |

Besides, the columns of `src.data.scene_file`, with boxes on the canvas. Each picture lies on it in a place of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from src.core.errors import invalid
from src.core.params import PrepareParams
from src.data.dataset import DatasetFile
from src.data.h5 import member, read_rows
from src.data.letterbox import Frame, Letterbox
from src.data.scene_file import CODEC, SceneFile, writing
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
        letterbox: how it lies on the canvas.
        seed: of what losses draw of it; None: nothing has been said.
        is_spare: whether another process learns from it, and this one only computes along.
    """

    index: int
    name: str
    image: UInt8[Tensor, "3 h w"]
    target: Target
    letterbox: Letterbox
    seed: int | None = None
    is_spare: bool = False


def flip(example: Example) -> Example:
    """The picture mirrored left to right where it lies; the padding stays as it is."""
    left, _, right, _ = example.letterbox.region
    shift = int(left + right) - example.letterbox.padded_width  # 0 where the padding is the same on both sides
    target = flip_boxes(example.target, example.letterbox)
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


def write_prepared(path: Path, dataset: DatasetFile, prepare: PrepareParams, rows: Iterable[int] | None = None) -> int:
    """Moves a dataset's pictures to the canvas, one in memory at a time.

    An object that no pixel of the canvas shows teaches nothing: it is flagged as a crowd region is, and ignored.

    Args:
        path: the file to be made or replaced, atomically.
        dataset: where the pictures come from.
        prepare: the canvas.
        rows: which pictures, e.g. under a progress bar; all by default.

    Returns:
        How many objects vanished.

    Raises:
        InputError: a picture or mask of the dataset is damaged.
        OSError: the disk is full.
    """
    frame, vanished = Frame.from_params(prepare), 0
    height, width = frame.height, frame.padded_width
    attributes = {"frame": dataclasses.asdict(frame), "classes": dataset.classes.names}
    with writing(path, attributes) as writer:
        images = writer.growing("images", (height, width, 3), **CODEC)
        masks = writer.growing("masks", (-(-height * width // 8),), **CODEC)
        for row in range(len(dataset)) if rows is None else rows:
            sample = dataset[row]
            letterbox = frame.letterbox(*dataset.source_size(row))
            writer.append(images, letterbox.image_to_canvas(sample.image)[None])
            crowd = sample.crowd.copy()
            for number, mask in enumerate(_moved(sample, letterbox, dataset.path, row)):
                writer.append(masks, np.packbits(mask)[None])
                if not crowd[number] and not mask.any():
                    crowd[number], vanished = True, vanished + 1
            moved = dataclasses.replace(
                sample,
                boxes=letterbox.boxes_to_canvas(sample.boxes),
                crowd=crowd,
                unlabeled_boxes=letterbox.boxes_to_canvas(sample.unlabeled_boxes),
            )
            writer.add(moved, *dataset.source_size(row))
    return vanished


def _moved(sample: Sample, letterbox: Letterbox, path: Path, row: int) -> Bool[np.ndarray, "n h w"]:
    """The masks on the canvas.

    Raises:
        InputError: run lengths are damaged, naming the file and the picture.
    """
    try:
        return letterbox.masks_to_canvas(sample.masks)
    except (RuntimeError, ValueError) as error:
        raise invalid(path, "masks as run lengths", error, row) from None


def read_classes(path: Path) -> Classes:
    """The classes of a prepared file.

    Raises:
        InputError: the file is missing, broken or of another making.
    """
    with PreparedFile(path) as prepared:
        return prepared.classes


class PreparedFile(SceneFile):
    """Reads a prepared file: `len`, `example(i)`, `letterbox(i)`, `indices(split)`, and the columns of `SceneFile`.

    Attributes:
        frame: the canvas.
        size: its height and width.
    """

    def _open(self) -> None:
        super()._open()
        if "frame" not in self.attributes:
            raise invalid(self.path, "a prepared file", "a dataset file")
        self.frame = Frame(**self.attributes["frame"])
        height, width = self.size = self.frame.height, self.frame.padded_width
        self._images = member(self._file, "images", ("uint8",), (len(self), height, width, 3))
        self._masks = member(self._file, "masks", ("uint8",), (int(self._starts[-1]), -(-height * width // 8)))

    def letterbox(self, index: int) -> Letterbox:
        """How a picture lies on the canvas."""
        return self.frame.letterbox(*self.source_size(index))

    def example(self, index: int, *, masks: bool = True) -> Example:
        """Reads one picture; without its masks if they are not needed."""
        image = torch.from_numpy(self.image(index)).permute(2, 0, 1)
        return Example(index, self.names[index], image, self.target(index, masks=masks), self.letterbox(index))

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

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Reads a picture on the canvas."""
        return read_rows(self._images, index, index + 1)[0]

    def masks(self, index: int) -> Bool[np.ndarray, "n h w"]:
        """Reads the masks of a picture's objects on the canvas."""
        rows = self._rows(index)
        height, width = self.size
        bits = np.unpackbits(read_rows(self._masks, rows.start, rows.stop), axis=1, count=height * width)
        return bits.view(bool).reshape(-1, height, width)

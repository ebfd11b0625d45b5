"""One picture with its objects, as every source yields it and as the dataset file stores it (assignment, section 2).

A picture has the size that it came with: the course's and the emoji scenes are 300 x 400, others as they are. Letters:
n annotated objects, k objects that are present but deliberately unannotated (task 17), h x w pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from src.structures.classes import Classes
from src.structures.masks import Masks

HEIGHT: Final = 300  # of the course's pictures
WIDTH: Final = 400
TRAIN: Final = "train"
TEST: Final = "test"
VALIDATION: Final = "validation"  # kept from training, to choose by
SPLITS: Final = (TRAIN, TEST, VALIDATION)


@dataclass(frozen=True)
class PictureFile:
    """A picture's file as a person has it.

    Attributes:
        content: its bytes.
        as_stored: whether the picture is meant as its pixels are stored, whatever the file's EXIF orientation says.
    """

    content: bytes
    as_stored: bool = False


@dataclass(frozen=True)
class Sample:
    """One picture and its objects, in the picture's own pixels.

    Attributes:
        name: stable and unique inside the set, e.g. `train/000012` or `000000000025.jpg`.
        image: RGB.
        boxes: x1 y1 x2 y2, x right and y down, pixel edges (a box around one pixel at the corner is 0 0 1 1).
        labels: 1 and up, in the order of the set's `Classes`.
        masks: the visible part of each object.
        crowd: regions of many objects (COCO's `iscrowd`): neither object nor background, so ignored.
        unlabeled_boxes: objects in the picture that the ground truth leaves out on purpose.
        unlabeled_labels: their classes.
        split: one of `SPLITS`.
        file: what `image` was decoded from, so that the dataset file need not store pixels; None where a source has
            only those.
    """

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    boxes: Float32[np.ndarray, "n 4"]
    labels: Int64[np.ndarray, " n"]
    masks: Masks
    crowd: Bool[np.ndarray, " n"]
    unlabeled_boxes: Float32[np.ndarray, "k 4"]
    unlabeled_labels: Int64[np.ndarray, " k"]
    split: str
    file: PictureFile | None = None


@runtime_checkable
class Source(Protocol):
    """A set of pictures: its size and classes are known at once, its pictures come one by one."""

    @property
    def classes(self) -> Classes:
        """What its labels stand for."""
        ...

    def __len__(self) -> int:
        """Number of pictures."""
        ...

    def __iter__(self) -> Iterator[Sample]:
        """The pictures in a fixed order, each read when asked for."""
        ...


def no_boxes() -> Float32[np.ndarray, "k 4"]:
    """The boxes of a picture without objects."""
    return np.zeros((0, 4), np.float32)


def no_labels() -> Int64[np.ndarray, 0]:
    """The labels of a picture without objects."""
    return np.zeros(0, np.int64)

"""One picture with its objects, as every source yields it and as the dataset file stores it (assignment, section 2).

Letters: n annotated objects, k objects that are present but deliberately unannotated (task 17), h x w pixels:
300 x 400 as a source yields it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from src.structures.classes import Classes

HEIGHT: Final = 300
WIDTH: Final = 400
TRAIN: Final = "train"
TEST: Final = "test"
VALIDATION: Final = "validation"  # kept from training, to choose by
SPLITS: Final = (TRAIN, TEST, VALIDATION)


@dataclass(frozen=True)
class Sample:
    """One picture and its objects.

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
    """

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    boxes: Float32[np.ndarray, "n 4"]
    labels: Int64[np.ndarray, " n"]
    masks: Bool[np.ndarray, "n h w"]
    crowd: Bool[np.ndarray, " n"]
    unlabeled_boxes: Float32[np.ndarray, "k 4"]
    unlabeled_labels: Int64[np.ndarray, " k"]
    split: str


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

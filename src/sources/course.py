"""The assignment's own four files (section 2): images and masks in HDF5, labels and boxes as numpy object arrays.

| file | content |
| --- | --- |
| hw3_mycocodata_img_comp_zlib.h5 | `data`, uint8 [N, 3, 300, 400] |
| hw3_mycocodata_mask_comp_zlib.h5 | `data`, bool or uint8 in {0, 1} [M, 300, 400], flat in label order |
| hw3_mycocodata_labels_comp_zlib.npy | N arrays int64 [n], 1 vehicle, 2 person, 3 animal |
| hw3_mycocodata_bboxes_comp_zlib.npy | N arrays float32 [n, 4], x1 y1 x2 y2 in the 300 x 400 frame |

Where each picture has as many objects, labels and boxes may be plain arrays [N, n] and [N, n, 4]; with one object each
also [N] and [N, 4]. Labels, boxes and declared shapes are checked before any picture is read; masks as they come.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Bool, UInt8

from src.core.data_params import DataParams
from src.core.errors import invalid
from src.data.h5 import cache_for, member, offsets, open_h5, read_rows
from src.sources.assignment import CLASSES
from src.sources.checks import check_count, check_labels, check_mask, clip_boxes
from src.sources.pickles import read_arrays
from src.sources.splits import limited, root_folder, split_names
from src.structures.classes import Classes
from src.structures.masks import Masks
from src.structures.sample import HEIGHT, WIDTH, Sample, Source, no_boxes, no_labels

IMAGES = "hw3_mycocodata_img_comp_zlib.h5"
MASKS = "hw3_mycocodata_mask_comp_zlib.h5"
LABELS = "hw3_mycocodata_labels_comp_zlib.npy"
BOXES = "hw3_mycocodata_bboxes_comp_zlib.npy"
BLOCK = 32  # pictures in memory at a time


def open_course(params: DataParams) -> Source:
    """Opens the four files in `data.root`.

    Raises:
        InputError: a file is missing or broken, or the files contradict each other.
    """
    return CourseSource(root_folder(params), params)


class CourseSource:
    """The pictures in the files' order; 32 of them in memory at a time."""

    def __init__(self, folder: Path, params: DataParams) -> None:
        self.folder = folder
        self.labels = _read_labels(folder / LABELS, params.objects_per_image)
        self.boxes = _read_boxes(folder / BOXES, [len(labels) for labels in self.labels])
        self.starts = offsets([len(labels) for labels in self.labels])
        if not self.starts[-1]:
            raise invalid(folder / LABELS, "objects", "none in any image")
        self.count = limited(len(self.labels), params)
        self.splits = split_names(self.count, params)
        with open_h5(folder / IMAGES) as images, open_h5(folder / MASKS) as masks:
            self.caches = cache_for(self._images(images)), cache_for(self._masks(masks))

    @property
    def classes(self) -> Classes:
        """The assignment's."""
        return CLASSES

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Sample]:
        with (
            open_h5(self.folder / IMAGES, self.caches[0]) as images,
            open_h5(self.folder / MASKS, self.caches[1]) as masks,
        ):
            for start in range(0, self.count, BLOCK):
                rows = range(start, min(start + BLOCK, self.count))
                yield from self._block(rows, self._images(images), self._masks(masks))

    def _images(self, file: h5py.File) -> h5py.Dataset:
        return member(file, "data", ("uint8",), (len(self.labels), 3, HEIGHT, WIDTH))

    def _masks(self, file: h5py.File) -> h5py.Dataset:
        return member(file, "data", ("bool", "uint8"), (int(self.starts[-1]), HEIGHT, WIDTH))

    def _block(self, rows: range, images: h5py.Dataset, masks: h5py.Dataset) -> Iterator[Sample]:
        """Reads the pictures `rows` and their masks, and yields them one by one."""
        first = int(self.starts[rows.start])
        pictures = read_rows(images, rows.start, rows.stop)
        block = read_rows(masks, first, int(self.starts[rows.stop]))
        if block.dtype == np.uint8 and (block > 1).any():
            wrong = int(np.argmax((block > 1).any((1, 2))))
            raise invalid(self.folder / MASKS, "masks of 0 and 1", f"the value {block[wrong].max()}", first + wrong)
        for row, picture in zip(rows, pictures, strict=True):
            mine = slice(int(self.starts[row]) - first, int(self.starts[row + 1]) - first)
            yield self._sample(row, picture, block[mine].astype(bool))

    def _sample(
        self, row: int, picture: UInt8[np.ndarray, "3 300 400"], masks: Bool[np.ndarray, "n 300 400"]
    ) -> Sample:
        """One picture, its masks checked against its boxes."""
        for number, (mask, box) in enumerate(zip(masks, self.boxes[row], strict=True), int(self.starts[row])):
            check_mask(mask, box, self.folder / MASKS, number)
        return Sample(
            name=f"{row:06d}",
            image=np.ascontiguousarray(picture.transpose(1, 2, 0)),
            boxes=self.boxes[row],
            labels=self.labels[row],
            masks=Masks.from_pixels(masks),
            crowd=np.zeros(len(masks), bool),
            unlabeled_boxes=no_boxes(),
            unlabeled_labels=no_labels(),
            split=self.splits[row],
        )


def _read_labels(path: Path, limit: int) -> list[np.ndarray]:
    """Labels by picture, checked: int64 [n] each, with n at most `limit`."""
    entries = [entry[None] if entry.ndim == 0 else entry for entry in read_arrays(path)]
    for index, entry in enumerate(entries):
        if entry.dtype != np.int64 or entry.ndim != 1:
            raise invalid(path, "int64 labels of shape (n,)", f"{entry.dtype} of shape {entry.shape}", index)
        check_count(len(entry), limit, path, index)
        check_labels(entry, CLASSES, path, index)
    return entries


def _read_boxes(path: Path, counts: list[int]) -> list[np.ndarray]:
    """Boxes by picture, checked and clipped: float32 [n, 4] each, `counts[i]` of them."""
    entries = [entry[None] if entry.shape == (4,) else entry for entry in read_arrays(path)]
    if len(entries) != len(counts):
        raise invalid(path, f"{len(counts)} entries, as in {LABELS}", len(entries))
    boxes = []
    for index, (entry, count) in enumerate(zip(entries, counts, strict=True)):
        if entry.dtype != np.float32 or entry.shape != (count, 4):
            expected = f"float32 boxes of shape ({count}, 4), one a label"
            raise invalid(path, expected, f"{entry.dtype} of shape {entry.shape}", index)
        boxes.append(clip_boxes(entry, (0.0, 0.0, float(WIDTH), float(HEIGHT)), path, index))
    return boxes

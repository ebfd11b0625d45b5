"""What the dataset file and the prepared file have in common: the small facts about pictures and objects, as columns.

Pictures and masks differ: the dataset file keeps files and run lengths (`src.data.dataset`), the prepared file pixels
(`src.data.prepared`). Both are written as they come: only a few numbers per object stay in memory. The same pictures
give the same bytes.

| column | content |
| --- | --- |
| boxes, labels, crowd | float32 [M, 4], int64 [M], bool [M], flat in the pictures' order |
| starts | int64 [N + 1]: picture i owns rows starts[i] to starts[i + 1] |
| unlabeled_boxes, unlabeled_labels, unlabeled_starts | likewise, the objects that the ground truth leaves out |
| sizes | int64 [N, 2]: height and width of each picture in its own pixels |
| names, split | bytes [N], uint8 [N], the place in `SPLITS` |
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import h5py
import hdf5plugin
import numpy as np
from jaxtyping import Bool, Float32, Int64

from src.core.errors import invalid
from src.core.files import atomic_write
from src.data.h5 import member, offsets, open_h5, read_rows, require_disk_space
from src.structures.classes import Classes
from src.structures.sample import SPLITS, Sample

CODEC = hdf5plugin.Blosc2(cname="zstd", clevel=1, filters=hdf5plugin.Blosc2.BITSHUFFLE)  # reads faster than a disk

File = TypeVar("File", bound="SceneFile")


class SceneWriter:
    """A file that is being written: its datasets, and the columns gathered while the pictures go by."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path, self.file, self._columns = path, file, _Columns()

    def growing(self, name: str, row: tuple[int, ...], rows: int = 1, **options: Any) -> h5py.Dataset:
        """A new dataset of bytes without rows yet, `rows` of them a chunk."""
        return self.file.create_dataset(
            name, (0, *row), np.uint8, maxshape=(None, *row), chunks=(rows, *row), **options
        )

    def append(self, dataset: h5py.Dataset, rows: np.ndarray) -> None:
        """Adds rows.

        Raises:
            OSError: the disk is full.
        """
        require_disk_space(self.path, rows.nbytes)
        dataset.resize(len(dataset) + len(rows), axis=0)
        if len(rows):
            dataset[-len(rows) :] = rows

    def add(self, sample: Sample, height: int, width: int) -> None:
        """The small facts about a picture of `height` x `width` own pixels."""
        self._columns.add(sample, height, width)

    def finish(self) -> None:
        """Writes the columns."""
        for name, column in self._columns.arrays().items():
            self.file.create_dataset(name, data=column)


@contextmanager
def writing(path: Path, attributes: dict[str, Any]) -> Iterator[SceneWriter]:
    """Opens a file to be made or replaced, atomically, when the block ends well.

    Args:
        path: the file.
        attributes: what a reader needs to know besides, as JSON; `classes`, the names of the classes, among it.

    Raises:
        OSError: the disk is full.
    """
    require_disk_space(path)
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["attributes"] = json.dumps(attributes, sort_keys=True)
        writer = SceneWriter(path, file)
        yield writer
        writer.finish()


class _Columns:
    """The small facts about each picture, gathered while the pictures go by."""

    def __init__(self) -> None:
        self.samples: list[tuple[np.ndarray, ...]] = []
        self.names: list[bytes] = []
        self.splits: list[int] = []
        self.sizes: list[tuple[int, int]] = []

    def add(self, sample: Sample, height: int, width: int) -> None:
        self.samples.append(
            (sample.boxes, sample.labels, sample.crowd, sample.unlabeled_boxes, sample.unlabeled_labels)
        )
        self.names.append(sample.name.encode())
        self.splits.append(SPLITS.index(sample.split))
        self.sizes.append((height, width))

    def arrays(self) -> dict[str, np.ndarray]:
        empty = [np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)]
        parts = list(zip(*self.samples, strict=True)) if self.samples else [()] * 5
        kinds = [*empty, *empty[:2]]
        columns = ("boxes", "labels", "crowd", "unlabeled_boxes", "unlabeled_labels")
        flat = {name: np.concatenate([kind, *part]) for name, kind, part in zip(columns, kinds, parts, strict=True)}
        return flat | {
            "starts": offsets([len(labels) for labels in parts[1]]),
            "unlabeled_starts": offsets([len(labels) for labels in parts[4]]),
            "names": np.array(self.names, dtype=np.bytes_) if self.names else np.zeros(0, "S1"),
            "split": np.array(self.splits, np.uint8),
            "sizes": np.array(self.sizes, np.int64).reshape(-1, 2),
        }


class SceneFile:
    """Reads the columns, which then are in memory.

    Attributes:
        classes: what the labels stand for.

    Raises:
        InputError: the file is missing, broken or of another making.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_h5(path)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        if "attributes" not in self._file.attrs:
            raise invalid(self.path, "a file that this project wrote", "another HDF5 file")
        self.attributes: dict[str, Any] = json.loads(self._file.attrs["attributes"])
        self.classes = Classes.read(self.attributes.get("classes"), self.path, "classes")
        self.names = [name.decode() for name in self._file["names"][:]]
        count = len(self.names)
        self._starts = self._column("starts", "int64", (count + 1,))
        total = int(self._starts[-1])
        self._boxes = self._column("boxes", "float32", (total, 4))
        self._labels = self._column("labels", "int64", (total,))
        self._crowd = self._column("crowd", "bool", (total,))
        self._unlabeled_starts = self._column("unlabeled_starts", "int64", (count + 1,))
        self._unlabeled_boxes = self._column("unlabeled_boxes", "float32", (int(self._unlabeled_starts[-1]), 4))
        self._unlabeled_labels = self._column("unlabeled_labels", "int64", (int(self._unlabeled_starts[-1]),))
        for labels in (self._labels, self._unlabeled_labels):
            if len(labels) and not (labels.min() >= 1 and labels.max() < self.classes.count):
                raise invalid(self.path, f"labels 1 to {self.classes.count - 1}", f"{labels.min()} to {labels.max()}")
        self._splits = self._column("split", "uint8", (count,))
        if (self._splits >= len(SPLITS)).any():
            raise invalid(self.path, f"splits below {len(SPLITS)}", self._splits.max(), "split")
        self._sizes = self._column("sizes", "int64", (count, 2))

    def _column(self, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        dataset = member(self._file, name, (dtype,), shape)
        return read_rows(dataset, 0, shape[0])

    def __len__(self) -> int:
        return len(self.names)

    def __enter__(self: File) -> File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; columns stay readable."""
        self._file.close()

    def indices(self, split: str) -> list[int]:
        """Rows of the pictures in one of `SPLITS`, ascending."""
        return np.flatnonzero(self._splits == SPLITS.index(split)).tolist()

    def split(self, index: int) -> str:
        """One of `SPLITS`."""
        return SPLITS[self._splits[index]]

    def labels(self, index: int) -> Int64[np.ndarray, " n"]:
        """Labels of a picture's objects, crowd regions among them, without reading the picture."""
        return self._labels[self._rows(index)]

    def boxes(self, index: int) -> Float32[np.ndarray, "n 4"]:
        """Boxes of a picture's objects, crowd regions among them, without reading the picture."""
        return self._boxes[self._rows(index)]

    def crowd(self, index: int) -> Bool[np.ndarray, " n"]:
        """Which of a picture's objects are crowd regions."""
        return self._crowd[self._rows(index)]

    def object_count(self, index: int) -> int:
        """Annotated objects of a picture, crowd regions left out."""
        return int((~self.crowd(index)).sum())

    def unlabeled_boxes(self, index: int) -> Float32[np.ndarray, "k 4"]:
        """Boxes of the objects that the ground truth leaves out."""
        return self._unlabeled_boxes[self._unlabeled_rows(index)]

    def unlabeled_labels(self, index: int) -> Int64[np.ndarray, " k"]:
        """Labels of the objects that the ground truth leaves out."""
        return self._unlabeled_labels[self._unlabeled_rows(index)]

    def source_size(self, index: int) -> tuple[int, int]:
        """Height and width of a picture in its own pixels."""
        height, width = self._sizes[index].tolist()
        return height, width

    def _rows(self, index: int) -> slice:
        return slice(int(self._starts[index]), int(self._starts[index + 1]))

    def _unlabeled_rows(self, index: int) -> slice:
        return slice(int(self._unlabeled_starts[index]), int(self._unlabeled_starts[index + 1]))

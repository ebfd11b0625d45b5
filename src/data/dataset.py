"""The dataset file that `ingest` writes: every source's pictures in one form, each in its own size (section 2).

A picture is kept as the file that it came as, whatever the format, and decoded when it is read, so that a set weighs
what its files do; pixels that came without a file are kept as lossless WebP. Masks are kept as run lengths.

| dataset | content |
| --- | --- |
| files, file_starts | uint8 [bytes], int64 [N + 1]: the bytes of picture i are file_starts[i] to file_starts[i + 1] |
| as_stored | bool [N]: whether the file's EXIF orientation is passed over |
| masks, mask_starts | uint8 [bytes], int64 [M + 1]: likewise COCO's compressed run lengths of each object, as text |

Besides, the columns of `src.data.scene_file`. HDF5's checksum tells of every byte that a disk has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from jaxtyping import UInt8

from src.core.errors import invalid
from src.data.decoding import decode, encode, opened
from src.data.h5 import member, offsets, read_rows
from src.data.scene_file import CODEC, SceneFile, writing
from src.structures.masks import Masks
from src.structures.sample import PictureFile, Sample

BLOCK: Final = 2**16  # bytes a chunk: a picture's file is read in a few of them


def write_dataset(path: Path, samples: Iterable[Sample], meta: dict[str, Any]) -> None:
    """Writes samples as they come; memory does not grow with the pictures.

    Args:
        path: the file to be made or replaced, atomically.
        samples: the pictures; a `Source`, for one.
        meta: facts about the set, JSON; `classes`, the names of the classes in label order, among them.

    Raises:
        ValueError: masks have another size than their picture.
        OSError: the disk is full.
    """
    file_lengths: list[int] = []
    mask_lengths: list[int] = []
    as_stored: list[bool] = []
    with writing(path, meta) as writer:
        files = writer.growing("files", (), BLOCK, fletcher32=True)
        masks = writer.growing("masks", (), BLOCK, fletcher32=True, **CODEC)
        for sample in samples:
            height, width = sample.image.shape[:2]
            if (sample.masks.height, sample.masks.width) != (height, width):
                found = f"{sample.masks.height} x {sample.masks.width}"
                raise ValueError(f"expected masks of {height} x {width} pixels, found {found} in {sample.name}")
            file, codes = sample.file or encode(sample.image), [text.encode() for text in sample.masks.counts]
            writer.append(files, np.frombuffer(file.content, np.uint8))
            writer.append(masks, np.frombuffer(b"".join(codes), np.uint8))
            file_lengths.append(len(file.content))
            mask_lengths += map(len, codes)
            as_stored.append(file.as_stored)
            writer.add(sample, height, width)
        writer.file["file_starts"], writer.file["mask_starts"] = offsets(file_lengths), offsets(mask_lengths)
        writer.file["as_stored"] = np.array(as_stored, bool)


class DatasetFile(SceneFile):
    """Reads a dataset file: `len`, `[i]`, iteration, `image(i)`, `masks(i)` and the columns of `SceneFile`.

    Example:
        with DatasetFile(Path("data/dataset.h5")) as dataset:
            sample = dataset[dataset.indices("test")[0]]
    """

    def _open(self) -> None:
        super()._open()
        if "frame" in self.attributes:
            raise invalid(self.path, "a dataset file", "a prepared file")
        self._file_starts = self._column("file_starts", "int64", (len(self) + 1,))
        self._mask_starts = self._column("mask_starts", "int64", (int(self._starts[-1]) + 1,))
        self._as_stored = self._column("as_stored", "bool", (len(self),))
        self._files = member(self._file, "files", ("uint8",), (int(self._file_starts[-1]),))
        self._masks = member(self._file, "masks", ("uint8",), (int(self._mask_starts[-1]),))

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        index %= len(self)
        return Sample(
            name=self.names[index],
            image=self.image(index),
            boxes=self.boxes(index),
            labels=self.labels(index),
            masks=self.masks(index),
            crowd=self.crowd(index),
            unlabeled_boxes=self.unlabeled_boxes(index),
            unlabeled_labels=self.unlabeled_labels(index),
            split=self.split(index),
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Reads and decodes a picture.

        Raises:
            InputError: its bytes are damaged.
        """
        file = PictureFile(self._bytes(self._files, self._file_starts, index), bool(self._as_stored[index]))
        with opened(file, self.path, index) as picture:
            image = decode(picture, as_stored=file.as_stored)
        if image.shape[:2] != self.source_size(index):
            expected, found = ("{} x {}".format(*size) for size in (self.source_size(index), image.shape[:2]))
            raise invalid(self.path, f"a picture of {expected} pixels", found, index)
        return image

    def masks(self, index: int) -> Masks:
        """Reads the masks of a picture's objects, without reading the picture.

        Raises:
            InputError: their bytes are damaged.
        """
        rows = self._rows(index)
        codes = [self._bytes(self._masks, self._mask_starts, row) for row in range(rows.start, rows.stop)]
        try:
            return Masks.from_counts(*self.source_size(index), [code.decode("ascii") for code in codes])
        except UnicodeDecodeError as error:
            raise invalid(self.path, "masks as run lengths", error, index) from None

    @staticmethod
    def _bytes(dataset: h5py.Dataset, starts: np.ndarray, index: int) -> bytes:
        return read_rows(dataset, int(starts[index]), int(starts[index + 1])).tobytes()

"""The cached second-stage inputs: proposals and their pooled features, so that heads train without the backbone.

A view is one image, plain or mirrored. Pooled features are bf16, kept as the 16-bit patterns that HDF5 has a type
for; one contiguous block a view, so that reading a view is one sequential read.

Letters: r boxes of a view, m positive RoIs of a view for the mask head, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from src.core.errors import invalid
from src.core.files import atomic_write
from src.data.h5 import require_disk_space

BOX_CELLS, MASK_CELLS, MASK_SIZE, CHANNELS = 7, 14, 28, 256


@dataclass(frozen=True)
class CachedView:
    """One view's cached inputs.

    Attributes:
        index: row of the image in the prepared file.
        flipped: whether it is the mirrored one.
        train: whether it belongs to the training split.
        boxes: proposals, best first; in training views the ground truth boxes follow them.
        pooled: P = 7 features of the boxes.
        mask_boxes: boxes that overlap an object by `rois.fg_iou_thresh` or more.
        mask_labels: their classes, 1..3.
        mask_truth: row of the object in the image's ground truth.
        mask_pooled: their P = 14 features.
        mask_targets: the object's mask inside the box, 28 x 28.
    """

    index: int
    flipped: bool
    train: bool
    boxes: Float[Tensor, "r 4"]
    pooled: Float[Tensor, "r c 7 7"]
    mask_boxes: Float[Tensor, "m 4"]
    mask_labels: Int64[Tensor, " m"]
    mask_truth: Int64[Tensor, " m"]
    mask_pooled: Float[Tensor, "m c 14 14"]
    mask_targets: Bool[Tensor, "m 28 28"]


ROWS = {  # name: (type, shape of one row), one row per box
    "boxes": ("f4", (4,)),
    "pooled": ("u2", (CHANNELS, BOX_CELLS, BOX_CELLS)),
    "mask_boxes": ("f4", (4,)),
    "mask_labels": ("i8", ()),
    "mask_truth": ("i8", ()),
    "mask_pooled": ("u2", (CHANNELS, MASK_CELLS, MASK_CELLS)),
    "mask_targets": ("?", (MASK_SIZE, MASK_SIZE)),
}


class FeaturesWriter:
    """Writes views one after another; the file appears when the block ends well.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._writing = path, atomic_write(path)
        self._views: list[tuple[int, bool, bool, int, int]] = []

    def __enter__(self) -> FeaturesWriter:
        require_disk_space(self._path)
        self._file = h5py.File(self._writing.__enter__(), "w", libver="latest")
        for name, (kind, shape) in ROWS.items():
            options = {"shape": (0, *shape), "maxshape": (None, *shape), "chunks": (_chunk(shape), *shape)}
            self._file.create_dataset(name, dtype=kind, track_times=False, **options)
        return self

    def append(self, view: CachedView) -> None:
        """Adds a view.

        Raises:
            OSError: the disk is full.
        """
        require_disk_space(self._path, sum(getattr(view, name).nbytes for name in ROWS))
        for name in ROWS:
            values = getattr(view, name)
            if values.dtype == torch.bfloat16:
                values = values.contiguous().view(torch.uint16)
            dataset = self._file[name]
            dataset.resize(len(dataset) + len(values), axis=0)
            if len(values):
                dataset[-len(values) :] = values.cpu().numpy()
        self._views.append((view.index, view.flipped, view.train, len(view.boxes), len(view.mask_boxes)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                table = np.array(self._views, dtype=np.int64).reshape(-1, 5)
                self._file.create_dataset("views", data=table, track_times=False)
            self._file.close()
        except BaseException as failure:  # on a full disk; the temporary file must still go
            self._writing.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._writing.__exit__(kind, error, trace)


def _chunk(shape: tuple[int, ...]) -> int:
    """Rows a chunk, about half a megabyte: a view is then a few sequential reads."""
    return max(1, 2**19 // max(2 * int(np.prod(shape)), 1))


class FeaturesFile:
    """Reads views.

    Args:
        path: the file.

    Raises:
        InputError: the file is not one that `FeaturesWriter` wrote.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = h5py.File(path, "r")
            self._views = self._file["views"][:]
        except (OSError, KeyError) as error:
            raise invalid(path, "a file of cached features", str(error)) from None
        self._box_starts = np.concatenate([[0], self._views[:, 3].cumsum()])
        self._mask_starts = np.concatenate([[0], self._views[:, 4].cumsum()])

    def __len__(self) -> int:
        return len(self._views)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def views(self, train: bool) -> list[int]:
        """Numbers of the training views, or of the test views."""
        return [int(number) for number in np.flatnonzero(self._views[:, 2] == int(train))]

    def image(self, number: int) -> tuple[int, bool]:
        """Row of the view's image in the prepared file, and whether it is mirrored."""
        return int(self._views[number, 0]), bool(self._views[number, 1])

    def boxes(self, number: int) -> tuple[Float[Tensor, "r 4"], Float[Tensor, "r c 7 7"]]:
        """A view's boxes and their P = 7 features (bf16)."""
        rows = slice(self._box_starts[number], self._box_starts[number + 1])
        return torch.from_numpy(self._file["boxes"][rows]), self._half("pooled", rows)

    def mask_rois(self, number: int, limit: int | None = None) -> dict[str, Tensor]:
        """A view's `mask_*` rows by name, the first `limit` of them, features in bf16."""
        first, last = self._mask_starts[number], self._mask_starts[number + 1]
        rows = slice(first, last if limit is None else min(last, first + limit))
        plain = ("mask_boxes", "mask_labels", "mask_truth", "mask_targets")
        rois = {name: torch.from_numpy(self._file[name][rows]) for name in plain}
        return rois | {"mask_pooled": self._half("mask_pooled", rows)}

    def _half(self, name: str, rows: slice) -> Tensor:
        return torch.from_numpy(self._file[name][rows]).view(torch.bfloat16)

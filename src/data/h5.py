"""Reading HDF5 files that others wrote: every surprise becomes one line that names the file. And room for our own.

Shapes and types are compared with what was expected before a byte of data is read, so that a file which declares
terabytes costs nothing. Links and data that lie outside the file are refused: a downloaded file must not read others.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers Blosc2 and other codecs with h5py
import numpy as np

from src.core.errors import InputError, invalid

DEFAULT_CACHE = 2**20
LARGEST_CACHE = 2**29
ROOM = 2**26  # bytes that writers leave free; HDF5 2 holds back 8 MiB a dataset, and there are up to seven


def open_h5(path: Path, cache: int = DEFAULT_CACHE) -> h5py.File:
    """Opens a file read-only.

    Args:
        path: the file.
        cache: bytes of decompressed chunks that each dataset keeps; see `cache_for`.

    Raises:
        InputError: there is no such file, or it is truncated or not HDF5.
    """
    if not path.is_file():
        raise invalid(path, "an HDF5 file", "a folder" if path.is_dir() else "no such file")
    try:
        return h5py.File(path, "r", rdcc_nbytes=cache, rdcc_nslots=100_003)
    except OSError as error:
        raise invalid(path, "a readable HDF5 file", error) from None


def member(file: h5py.File, key: str, dtypes: tuple[str, ...], shape: tuple[int | None, ...]) -> h5py.Dataset:
    """Finds a dataset and checks what it declares; reads none of it.

    Args:
        file: the open file.
        key: the dataset's name.
        dtypes: admitted element types, as numpy names them.
        shape: expected sizes; None where any will do.

    Raises:
        InputError: there is no such dataset, its header is damaged, its type or shape differs, or its data lie in
            another file.
    """
    try:
        return _member(file, key, dtypes, shape)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged header may make h5py raise anything
        raise invalid(file.filename, "a readable HDF5 file", error) from None


def _member(file: h5py.File, key: str, dtypes: tuple[str, ...], shape: tuple[int | None, ...]) -> h5py.Dataset:
    path = Path(file.filename)
    if key not in file or not isinstance(file.get(key, getlink=True), h5py.HardLink):
        raise invalid(path, f"a dataset '{key}'", "the entries " + ", ".join(sorted(file)[:6]) if len(file) else "none")
    dataset = file[key]
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise invalid(path, f"a dataset '{key}' stored in this file", "a group or a reference to another file")
    if dataset.dtype.name not in dtypes:
        raise invalid(path, f"{' or '.join(dtypes)} in '{key}'", dataset.dtype.name)
    expected = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
    fits = dataset.shape is not None and len(dataset.shape) == len(shape)
    if not fits or any(want not in (None, size) for want, size in zip(shape, dataset.shape, strict=True)):
        raise invalid(path, f"the shape {expected} of '{key}'", dataset.shape)
    return dataset


def read_rows(dataset: h5py.Dataset, start: int, stop: int) -> np.ndarray:
    """Reads rows `start` to `stop` (excluded) of a dataset.

    Raises:
        InputError: the stored bytes are damaged.
    """
    try:
        return dataset[start:stop]
    except (OSError, RuntimeError, MemoryError) as error:
        raise invalid(dataset.file.filename, "readable data", error, f"{start}:{stop}") from None


def require_disk_space(path: Path, coming: int = 0) -> None:
    """Refuses to write on when the disk is nearly full. Call it before the file is made, and before each write.

    HDF5 holds data back and writes them when the file is closed, after a failure too. Where it cannot, it crashes the
    process on its way out; so a writer must stop while there still is room for that.

    Args:
        path: the file; its folder is made if it is missing.
        coming: bytes about to be written.

    Raises:
        OSError: less than `ROOM` would be left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(path.parent).free < coming + ROOM:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def cache_for(dataset: h5py.Dataset) -> int:
    """Bytes of cache with which reading a dataset front to back decompresses every chunk once.

    A chunk may span hundreds of rows (h5py's own choice for the course's images would); without a cache that holds
    one band of chunks across all columns, each block of rows would decompress the band again.
    """
    if dataset.chunks is None or dataset.chunks[0] == 1:
        return DEFAULT_CACHE
    columns = zip(dataset.shape[1:], dataset.chunks[1:], strict=True)
    band = dataset.chunks[0] * math.prod(math.ceil(size / chunk) * chunk for size, chunk in columns)
    return min(max(2 * band * dataset.dtype.itemsize, DEFAULT_CACHE), LARGEST_CACHE)


def offsets(lengths: Sequence[int]) -> np.ndarray:
    """Where each picture's objects begin in a flat list of all objects; one more entry for the end. int64 [N + 1]."""
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int64)

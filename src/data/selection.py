"""Which pictures are taken, what they serve for, and which of them the figures show."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from src.core.errors import invalid
from src.core.params import DataParams
from src.structures.sample import TEST, TRAIN


@runtime_checkable
class Rows(Protocol):
    """A file of pictures whose split and labels can be read without the pictures."""

    def indices(self, split: str) -> list[int]:
        """Rows of the pictures in a split, ascending."""
        ...

    def object_count(self, index: int) -> int:
        """Annotated objects of a picture, crowd regions left out."""
        ...


def root_folder(params: DataParams) -> Path:
    """The folder `data.root`; relative to the main workspace also in DVC's temporary copies of it.

    Raises:
        InputError: there is no such folder.
    """
    folder = Path(os.environ.get("DVC_ROOT", ".")) / params.root
    with suppress(RuntimeError):  # `~` is nobody's home here
        folder = Path(os.environ.get("DVC_ROOT", ".")) / Path(params.root).expanduser()
    if not folder.is_dir():
        raise invalid("params.yaml", f"a folder in 'data.root' for data.source={params.source}", f"'{folder}'")
    return folder


def limited(count: int, params: DataParams) -> int:
    """How many of `count` pictures are taken: the first `data.limit`, or all."""
    return min(count, params.limit) if params.limit else count


def split_names(count: int, params: DataParams) -> list[str]:
    """`train` or `test` for each of `count` pictures, as the course splits them.

    The same as `torch.manual_seed(seed)` before `random_split(data, [int(fraction * N), rest])`. With 3265 pictures,
    a fraction of 0.8 and seed 1 the first test pictures are 1680, 377, 3003, 562, 1140.

    Raises:
        InputError: one side of the split would be empty.
    """
    train = int(params.train_fraction * count)
    if not 0 < train < count:
        found = f"{train} and {count - train} of {count} images (data.train_fraction, data.limit)"
        raise invalid("params.yaml", "images to train on and to test on", found)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(params.split_seed))
    names = [TEST] * count
    for index in order[:train].tolist():
        names[index] = TRAIN
    return names


def two_object_row(rows: Rows) -> int:
    """The picture of task 9: the first test picture with two objects, else the first with the most."""
    candidates = rows.indices(TEST)
    counts = [rows.object_count(index) for index in candidates]
    return candidates[counts.index(2) if 2 in counts else int(np.argmax(counts))]


def rows_with_objects(rows: Rows, split: str, count: int) -> list[int]:
    """The first `count` pictures of a split that have objects: the same ones in every run's figures."""
    return [index for index in rows.indices(split) if rows.object_count(index)][:count]


def offsets(lengths: Sequence[int]) -> np.ndarray:
    """Where each picture's objects begin in a flat list of all objects; one more entry for the end. int64 [N + 1]."""
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int64)

"""Which pictures of a source are taken, and which of them train or test."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import torch

from src.core.errors import invalid
from src.core.params import DataParams
from src.structures.sample import TEST, TRAIN


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

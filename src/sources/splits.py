"""Which pictures of a source are taken, and which of them train, test or validate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from src.core.data_params import DataParams
from src.core.errors import invalid
from src.core.runtime import generator
from src.structures.sample import TEST, TRAIN, VALIDATION

VALIDATION_STREAM = 1  # of draws from `data.split_seed`, apart from the course's own


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
    """The split of each of `count` pictures: train and test as the course has them, then the validation part.

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
    return hold_out(names, params)


def limits(counts: Sequence[int], params: DataParams) -> list[int]:
    """How many pictures of each part of a set are taken, in proportion to their counts; at least one of each."""
    total = sum(counts)
    taken = limited(total, params)
    return [min(count, max(1, count * taken // total)) if count else 0 for count in counts]


def hold_out(names: Sequence[str], params: DataParams) -> list[str]:
    """The same splits with `data.validation_fraction` of the training pictures kept for validation, drawn at random.

    Raises:
        InputError: the share comes to no picture, or to all of them.
    """
    names, train = list(names), [index for index, name in enumerate(names) if name == TRAIN]
    count = int(params.validation_fraction * len(train))
    if params.validation_fraction and not 0 < count < len(train):
        found = f"{count} of {len(train)} training images (data.validation_fraction={params.validation_fraction:g})"
        raise invalid("params.yaml", "images to train on and to validate on", found)
    draw = generator(params.split_seed, VALIDATION_STREAM)
    for place in torch.randperm(len(train), generator=draw)[:count].tolist():
        names[train[place]] = VALIDATION
    return names

"""Minibatches in an order that depends on seed and epoch only, read ahead while the network computes."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from src.core.processes import WHOLE, Share
from src.core.runtime import derive_seed, generator
from src.data.augmentation import Augmentation
from src.data.prepared import Example, PreparedFile, flip

AHEAD = 2  # minibatches
AUGMENTATION, SAMPLING = 1, 2  # streams of draws, apart from the mirroring's

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Loader:
    """Draws minibatches from a prepared file.

    Attributes:
        prepared: the file.
        indices: rows of the pictures to draw from.
        batch_size: pictures per minibatch; the last one of an epoch may be smaller.
        seed: of the order and of the mirroring.
        flip: mirror each picture in each epoch with probability one half.
        masks: read the masks too.
        shuffle: draw the order; otherwise that of `indices`.
        augmentation: how pictures are varied besides, anew in each epoch.
        share: what this process takes of each minibatch.
    """

    prepared: Path
    indices: Sequence[int]
    batch_size: int
    seed: int
    flip: bool
    masks: bool = True
    shuffle: bool = True
    augmentation: Augmentation | None = None
    share: Share = WHOLE

    def __len__(self) -> int:
        """Minibatches per epoch."""
        return math.ceil(len(self.indices) / self.batch_size)

    def batches(self, epoch: int) -> Iterator[list[Example]]:
        """All pictures once; the same epoch always gives the same minibatches."""
        with PreparedFile(self.prepared) as file:
            parts = minibatches(self.order(epoch), self.batch_size, self.share)
            yield from read_ahead(parts, lambda part: self._examples(file, epoch, *part), AHEAD)

    def order(self, epoch: int) -> list[int]:
        """The rows in the order of an epoch."""
        if not self.shuffle:
            return list(self.indices)
        return [self.indices[i] for i in torch.randperm(len(self.indices), generator=generator(self.seed, epoch))]

    def is_flipped(self, epoch: int, row: int) -> bool:
        """Whether a picture is mirrored in an epoch."""
        return self.flip and bool(torch.rand((), generator=generator(self.seed, epoch, row)) < 0.5)

    def _examples(self, file: PreparedFile, epoch: int, rows: Sequence[int], is_spare: bool) -> list[Example]:
        return [
            dataclasses.replace(
                self._example(file, epoch, row),
                seed=derive_seed(self.seed, epoch, row, SAMPLING),
                is_spare=is_spare,
            )
            for row in rows
        ]

    def _example(self, file: PreparedFile, epoch: int, row: int) -> Example:
        example = self._mirrored(file, epoch, row)
        if self.augmentation is None:
            return example
        draw = generator(self.seed, epoch, row, AUGMENTATION)
        other = self.indices[int(torch.randint(len(self.indices), (), generator=draw))]
        return self.augmentation(example, lambda: self._mirrored(file, epoch, other), draw)

    def _mirrored(self, file: PreparedFile, epoch: int, row: int) -> Example:
        """A picture as it is stored, or its mirror image."""
        masks = self.masks or (self.augmentation is not None and self.augmentation.copy_paste > 0)
        example = file.example(row, masks=masks)
        return flip(example) if self.is_flipped(epoch, row) else example


def minibatches(order: Sequence[Item], size: int, share: Share) -> list[tuple[Sequence[Item], bool]]:
    """`share`'s part of each minibatch of `size` items, the last one of the rest, and whether it is a spare."""
    return [share.take(order[first : first + size]) for first in range(0, len(order), size)]


def read_ahead(items: Iterable[Item], read: Callable[[Item], Result], depth: int) -> Iterator[Result]:
    """Yields `read(item)` in order, computed in one background thread up to `depth` results ahead.

    An error in `read` surfaces where its result is due. Leaving early stops the thread after the read it is in.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

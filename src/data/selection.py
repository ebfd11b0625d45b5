"""Which pictures the figures show: the same ones in every run."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from src.structures.sample import TEST


@runtime_checkable
class Rows(Protocol):
    """A file of pictures whose split and labels can be read without the pictures."""

    def indices(self, split: str) -> list[int]:
        """Rows of the pictures in a split, ascending."""
        ...

    def object_count(self, index: int) -> int:
        """Annotated objects of a picture, crowd regions left out."""
        ...


def two_object_row(rows: Rows, split: str = TEST) -> int:
    """The picture of task 9: the first of a split with two objects, else the first with the most."""
    candidates = rows.indices(split)
    counts = [rows.object_count(index) for index in candidates]
    return candidates[counts.index(2) if 2 in counts else int(np.argmax(counts))]


def rows_with_objects(rows: Rows, split: str, count: int) -> list[int]:
    """The first `count` pictures of a split that have objects: the same ones in every run's figures."""
    return [index for index in rows.indices(split) if rows.object_count(index)][:count]

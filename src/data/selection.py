"""Which pictures are measured, and which the figures show: the same ones in every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from src.core.errors import invalid
from src.structures.sample import TEST, VALIDATION


@runtime_checkable
class Rows(Protocol):
    """A file of pictures whose split and labels can be read without the pictures."""

    def indices(self, split: str) -> list[int]:
        """Rows of the pictures in a split, ascending."""
        ...

    def object_count(self, index: int) -> int:
        """Annotated objects of a picture, crowd regions left out."""
        ...


def check_validation(rows: Rows, settings: Sequence[str]) -> None:
    """Refuses settings that need validation pictures where the set has none.

    Args:
        rows: the set.
        settings: those in force that need some, as `key=value`; none is fine with any set.

    Raises:
        InputError: naming the first of them.
    """
    if settings and not rows.indices(VALIDATION):
        text = f"a 'data.validation_fraction' above 0, or a set with a validation part, with {settings[0]}"
        raise invalid("params.yaml", text, "no validation images")


def two_object_row(rows: Rows, split: str = TEST) -> int:
    """The picture of task 9: the first of a split with two objects, else the first with the most."""
    candidates = rows.indices(split)
    counts = [rows.object_count(index) for index in candidates]
    return candidates[counts.index(2) if 2 in counts else int(np.argmax(counts))]


def rows_with_objects(rows: Rows, split: str, count: int) -> list[int]:
    """The first `count` pictures of a split that have objects: the same ones in every run's figures."""
    return [index for index in rows.indices(split) if rows.object_count(index)][:count]

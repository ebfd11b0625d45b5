"""A training's history: one csv row per iteration, flushed at once, so that a person can follow a run.

Each loss term stands raw and weighted, so that a loss-weight experiment can be read.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from src.core.errors import InputError

Row = dict[str, float | int]


class History:
    """A csv file that grows row by row.

    Args:
        path: the file, begun anew; None where another process writes it, and rows are only kept.
        rows: rows of an earlier, interrupted run, written first.
    """

    def __init__(self, path: Path | None, rows: Sequence[Row] = ()) -> None:
        self.rows: list[Row] = []
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", newline="", encoding="utf-8")
        for row in rows:
            self.append(row)

    def append(self, row: Row) -> None:
        """Writes one row; the first one sets the columns."""
        if self._file:
            if not self.rows:
                csv.writer(self._file).writerow(row)
            values = [value if isinstance(value, int) else f"{value:.6g}" for value in row.values()]
            csv.writer(self._file).writerow(values)
            self._file.flush()
        self.rows.append(row)

    def close(self) -> None:
        """Closes the file."""
        if self._file:
            self._file.close()


def open_histories(folder: Path | None, names: Sequence[str], rows: Mapping[str, Sequence[Row]]) -> dict[str, History]:
    """A training's csv files, begun with the rows of earlier runs or phases; without a folder nothing is written."""
    return {name: History(folder / f"{name}.csv" if folder else None, rows.get(name, ())) for name in names}


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The total loss: each term times its weight. A term of weight 0 is left out, and its backward pass with it.

    Raises:
        KeyError: a term has no weight.
    """
    weighted = (weights[name] * term for name, term in terms.items() if weights[name])
    return sum(weighted, start=next(iter(terms.values())).new_zeros(()))


def loss_row(raw: Mapping[str, float], weights: Mapping[str, float]) -> Row:
    """Columns `<term>`, `<term>_weighted` for each term, and `total`."""
    weighted = {f"{name}_weighted": weights[name] * value for name, value in raw.items()}
    return {**raw, **weighted, "total": sum(weighted.values())}


def check_finite(row: Mapping[str, float | int], iteration: int, names: Callable[[], Sequence[str]]) -> None:
    """Stops a training whose loss is not finite, with all losses, the iteration and the images.

    Raises:
        InputError: a value of `row` is infinite or NaN.
    """
    if not all(math.isfinite(value) for value in row.values()):
        losses = ", ".join(f"{key}={value:g}" for key, value in row.items())
        raise InputError(f"iteration {iteration}: loss is not finite ({losses}) on images {', '.join(names())}")

"""What the stages found out, as the report reads it: the one place that opens `metrics/` and `plots/`.

A fact that is missing is an error that names its file and key: a report with silent gaps would pass for a whole one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from src.core.errors import InputError, invalid
from src.core.files import read_json
from src.core.params import Params
from src.reporting.origin import Origin, items, leaves, measured, nests


class Entry(dict[str, Any]):
    """A part of a metrics file that knows where it stands, so that a missing key is a complaint a person can use."""

    def __init__(self, content: dict[str, Any], path: Path, place: str) -> None:
        super().__init__(content)
        self._path, self._place = path, place

    def __missing__(self, key: str) -> Any:
        whole = f"{self._place}.{key}" if self._place else key
        raise invalid(self._path, f"the key '{whole}'", f"only {', '.join(sorted(self)) or 'none'}")


@dataclass(frozen=True)
class RunResults:
    """Reader of one run's results.

    Attributes:
        root: the workspace that holds `metrics/` and `plots/`.
        params: the run's parameters.
        charts: folder of the curves that `src.reporting.loss_curves` draws.
        seconds: how long each stage took, as far as it is known.
        seconds_an_image: how long each detector takes for an image, likewise.
        memory: the peak of each stage's largest process, bytes, likewise.
    """

    root: Path
    params: Params
    charts: Path
    seconds: dict[str, float] = field(default_factory=dict)
    seconds_an_image: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    _files: dict[str, Any] = field(default_factory=dict, repr=False)

    def value(self, stage: str, *keys: str) -> Any:
        """The entry `keys` of `metrics/<stage>.json`; None where the stage wrote null.

        What it returns complains in the same way about a key that it lacks, and its numbers know their origin.

        Raises:
            InputError: there is no such file or key.
        """
        entry = self._metrics(stage)
        for key in keys:
            if not isinstance(entry, dict):
                raise invalid(self._metrics_path(stage), f"an entry with the key '{key}'", repr(entry))
            entry = entry[key]
        return entry

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the object classes, in label order."""
        return tuple(self.value("ingest", "split"))

    def maybe(self, stage: str, *keys: str) -> Any:
        """As `value`, but None where the key, or one on the way to it, is absent or null."""
        entry = self._metrics(stage)
        for key in keys:
            entry = entry.get(key) if isinstance(entry, dict) else None
        return entry

    def table(self, name: str) -> pd.DataFrame:
        """The table `plots/<name>.csv`.

        Raises:
            InputError: there is no such file, or it has no rows.
        """
        path = self.plot(f"{name}.csv")
        try:
            frame = pd.read_csv(path)
        except pd.errors.EmptyDataError:
            frame = pd.DataFrame()
        if frame.empty:
            raise invalid(path, "a table with rows", "none")
        return frame

    def columns(self, name: str, frame: pd.DataFrame, *needed: str) -> None:
        """Checks that the table `plots/<name>.csv` has the columns.

        Raises:
            InputError: one is missing.
        """
        for column in needed:
            if column not in frame:
                raise invalid(self.plot(f"{name}.csv"), f"the column '{column}'", list(frame.columns))

    def plot(self, name: str) -> Path:
        """The path of `plots/<name>`.

        Raises:
            InputError: there is no such file.
        """
        path = self.root / "plots" / name
        if not path.is_file():
            raise InputError(f"{path}: no such file; the stage that draws it has not run")
        return path

    def pictures(self, folder: str) -> list[Path]:
        """The PNGs in `plots/<folder>`, by name; none if there is no such folder."""
        return sorted((self.root / "plots" / folder).glob("*.png"))

    def listings(self) -> dict[str, list[tuple[Origin, str]]]:
        """Of each file in `metrics/`, by the name of its stage, every entry with its content as JSON."""
        stages = sorted(path.stem for path in (self.root / "metrics").glob("*.json"))
        return {stage: list(leaves(self._metrics(stage), stage)) for stage in stages}

    def _metrics_path(self, stage: str) -> Path:
        return self.root / "metrics" / f"{stage}.json"

    def _metrics(self, stage: str) -> Any:
        if stage not in self._files:
            path = self._metrics_path(stage)
            try:
                self._files[stage] = _with_place(read_json(path), path, "")
            except FileNotFoundError:
                raise InputError(f"{path}: no such file; the stage '{stage}' has not run") from None
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise invalid(path, "JSON", str(error)) from None
        return self._files[stage]


def _with_place(value: Any, path: Path, place: str) -> Any:
    """The value with every object in it, at any depth, made an `Entry`, and every number one with its origin."""
    below = [_with_place(item, path, name) for name, item in items(value, place)]
    if isinstance(value, dict):
        return Entry(dict(zip(value, below, strict=True)), path, place)
    if isinstance(value, list):
        return below if nests(value) else [_with_place(item, path, place) for item in value]
    return measured(value, Origin(path.stem, place)) if isinstance(value, int | float) else value

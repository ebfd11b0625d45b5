"""Writing files so that a reader, or a killed process, never meets half of one."""

from __future__ import annotations

import glob
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it into place if the block succeeds, removes it if not.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; `path` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-{os.getpid()}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Removes the temporary files of `path` whose processes were killed before they could."""
    for file in path.parent.glob(f".{glob.escape(path.stem)}-*-*{glob.escape(path.suffix)}"):
        owner = re.fullmatch(r"(\d+)-[^-]+", file.name[len(f".{path.stem}-") :])
        if owner and not is_running(int(owner[1])):
            file.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Whether a process of that number lives; True where the system does not say."""
    if os.name != "posix":
        return True  # there, asking by signal would end it
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically. NaN is an error: undefined numbers are written as null."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[float | str | None]]) -> None:
    """Writes a table, atomically: numbers with six digits, an undefined one as an empty cell.

    A text with commas, quotes or line breaks stands in quotes (RFC 4180).
    """
    lines = [",".join(columns), *(",".join(map(_cell, row)) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")


def _cell(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        text = value or ""
        return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text
    return f"{value:.6g}"


def read_json(path: Path) -> Any:
    """Reads a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))

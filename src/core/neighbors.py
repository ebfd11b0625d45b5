"""Runs that go at the same time, as `dvc queue start -j 2` starts them: how many share this machine's cores.

DVC gives each queued or temporary run a folder of its own and names the main workspace in DVC_ROOT. There each such run
leaves a note with its process; a note of a process that has ended counts no more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.core.files import is_running, write_text

NOTES = Path(".cache") / "running"
RUNS = Path(".cache") / "runs"


def main_workspace() -> Path | None:
    """The workspace that this run is a copy of; None for a run in the main one, or one without DVC."""
    root = os.environ.get("DVC_ROOT")
    return None if root is None or Path(root).resolve() == Path.cwd() else Path(root)


def kept_of_run() -> Path | None:
    """Where a queued or temporary run leaves what is to outlive its own folder; None in the main workspace."""
    main, name = main_workspace(), os.environ.get("DVC_EXP_NAME")
    return main / RUNS / name if main and name else None


@contextmanager
def noted() -> Iterator[None]:
    """Has other runs of the same workspace count this one while the block lasts."""
    main = main_workspace()
    if main is None:
        yield
        return
    note = main / NOTES / Path.cwd().name  # the processes of one run leave one note
    write_text(note, str(os.getpid()))
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def runs_at_once() -> int:
    """Copies of the main workspace in which a stage runs now, this one among them; 1 in the main workspace itself."""
    main = main_workspace()
    if main is None:
        return 1
    return max(1, sum(_is_alive(note) for note in (main / NOTES).glob("[!.]*")))


def _is_alive(note: Path) -> bool:
    try:
        return is_running(int(note.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # it has just ended
        return False

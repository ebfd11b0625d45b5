"""Starting the program of this folder, and what it said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stages.workspace import ROOT

PROGRAM = "tests.processes.program"
SECONDS = 240  # ends what hangs


@dataclass(frozen=True)
class Ended:
    """A run of the program: its exit status, and the lines that all its processes printed."""

    status: int
    lines: list[str]


Start = Callable[..., Ended]


@pytest.fixture
def start() -> Start:
    """Runs the program in the working directory; `by` is what stands before `-m`, `env` is added to the variables."""

    def run(*arguments: str, by: tuple[str, ...] = (sys.executable,), env: dict[str, str] | None = None) -> Ended:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
        clean |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(env or {})}
        done = subprocess.run(
            [*by, "-m", PROGRAM, *arguments],
            cwd=Path.cwd(),
            env=clean,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            start_new_session=True,
        )
        return Ended(done.returncode, [line for line in done.stdout.splitlines() if line.strip()])

    return run

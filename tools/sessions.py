"""DVC's processes, which a Ctrl-C, a `kill` or a closed terminal ends together with their stages.

DVC hears no signal while its stage runs. So each of its processes has a session of its own, which is interrupted whole.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import IO, Any, Final

INTERRUPTED: Final = 130  # a shell's status for Ctrl-C
GLANCE: Final = 0.2  # seconds between looks at what has ended
PATIENCE: Final = 10.0  # seconds until what has not ended is interrupted again
DVC: Final = (sys.executable, "-m", "dvc")


class Endings:
    """A block in which this process notes that it is to end, at whatever moment, in place of an exception there.

    Attributes:
        heard: whether it was told to.
    """

    def __init__(self) -> None:
        self.heard = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Endings:
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Under `nohup` a closed terminal ends nothing. In a shell's background Ctrl-C is ignored, but not here.
            if (ending, signal.getsignal(ending)) != (signal.SIGHUP, signal.SIG_IGN):
                self._before[ending] = signal.signal(ending, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for ending, handler in self._before.items():
            signal.signal(ending, signal.SIG_DFL if handler is None else handler)

    def _hear(self, _: int, __: FrameType | None) -> None:
        self.heard = True


def start(*arguments: str, output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Starts DVC in a session of its own.

    Args:
        arguments: of DVC.
        output: where it prints, errors too; where this process does, if there is none.
    """
    return subprocess.Popen(  # noqa: S603  names of stages
        [*DVC, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        start_new_session=True,
    )


def wait(process: subprocess.Popen[bytes], endings: Endings) -> int:
    """The status of what has ended by itself, or `INTERRUPTED`."""
    while (status := process.poll()) is None:
        if endings.heard:
            end([process])
        else:
            time.sleep(GLANCE)
    return INTERRUPTED if endings.heard else status


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Interrupts sessions and waits for them; again after a while, since DVC may just have gone on to another stage."""
    told = -PATIENCE
    while running := [process for process in processes if process.poll() is None]:
        if time.monotonic() - told >= PATIENCE:
            for process in running:
                with suppress(ProcessLookupError, PermissionError):  # it has just ended
                    os.killpg(process.pid, signal.SIGINT)
            told = time.monotonic()
        time.sleep(GLANCE)

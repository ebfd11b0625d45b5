"""Who started this process, and an end with them: a killed DVC leaves no stage writing on."""

from __future__ import annotations

import os
import threading
import time

import psutil

SHELLS = {"sh", "ash", "bash", "dash", "fish", "ksh", "zsh", "cmd.exe", "powershell.exe", "pwsh"}


def ancestors() -> list[int]:
    """Numbers of this process's parent, and of that one's while they are shells: through what it was started.

    DVC runs a stage by the shell that `SHELL` names. bash becomes the command it is given; dash, which is /bin/sh on
    Debian, stays and waits for it, and outlives a DVC that is killed.
    """
    found: list[int] = []
    try:
        process = psutil.Process().parent()
        while process is not None:
            found.append(process.pid)
            process = process.parent() if process.name() in SHELLS else None
    except psutil.Error:  # one has just ended, or is not ours to look at
        pass
    return found


STARTED_BY = ancestors()  # asked once, as early as a stage imports this module


def end_with(started_by: list[int]) -> None:
    """Makes this process end soon after one of those that started it has: `ancestors()`, asked when it began.

    A thread asks twice a second; it waits while another thread holds Python's lock.
    """
    threading.Thread(target=_watch, args=(started_by,), daemon=True).start()


def _watch(started_by: list[int]) -> None:
    while ancestors() == started_by:
        time.sleep(0.5)
    os._exit(1)

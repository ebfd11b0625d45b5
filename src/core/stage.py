"""What every stage does around its work: read params, report errors in one line, note what time and memory it took."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from src.core.errors import InputError, one_line
from src.core.files import write_json
from src.core.neighbors import kept_of_run, noted
from src.core.params import Params
from src.core.params_file import load_params
from src.core.parent_watchdog import STARTED_BY, end_with
from src.core.processes import are_several, end, end_of_several, follow

SECONDS = Path(".cache") / "seconds"
MEMORY = Path(".cache") / "memory"
STATUS = Path("/proc/self/status")  # proc(5): VmHWM is the peak in kibibytes
INTERRUPTED = 130  # a shell's status for Ctrl-C


def run(name: str, work: Callable[[Params], None]) -> None:
    """Runs a stage's `work` on the params; exits with 1 and one line on a person's mistake or a full disk.

    Seconds go to `.cache/seconds/<name>.json`, the peak of memory to `.cache/memory`, which no stage tracks: what a run
    costs is no result. A temporary or queued run has its own, so that runs at the same time do not overwrite each
    other's, and leaves a copy of its seconds by its name in the main workspace's `.cache/runs`, since DVC deletes its
    folder. Under DVC, which sets DVC_STAGE, the stage ends when DVC does; run by hand it outlives the shell that
    started it, as `nohup` expects.
    """
    if "DVC_STAGE" in os.environ:
        end_with(STARTED_BY)
    follow()
    start = time.perf_counter()
    try:
        with noted():
            work(load_params())
        seconds = round(time.perf_counter() - start, 1)
        write_json(SECONDS / f"{name}.json", seconds)
        note_memory(MEMORY / f"{name}.json")
        if (kept := kept_of_run()) is not None:
            write_json(kept / f"{name}.json", seconds)
    except (InputError, OSError, MemoryError) as error:
        end(1, f"{name}: {one_line(error) or 'not enough memory'}")
    except KeyboardInterrupt:
        end(INTERRUPTED, f"{name}: interrupted; a training resumes from its last checkpoint")
    except Exception:
        if are_several():
            end_of_several()
        raise


def note_memory(path: Path) -> None:
    """Writes the largest resident memory, bytes, that this process or one of its ended children had.

    That of one process: the system keeps no peak of several together. Nothing is written where it keeps none (Windows).
    """
    try:
        import resource  # noqa: PLC0415 - a module of POSIX systems
    except ImportError:
        return
    peaks = [resource.getrusage(kind).ru_maxrss for kind in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2) counts bytes there, kibibytes elsewhere
    # Linux's getrusage counts what started this process as well, as it was before its exec.
    own = re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text()) if STATUS.is_file() else None
    if own:
        peaks[0] = int(own[1])
    write_json(path, unit * max(peaks))

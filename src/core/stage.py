"""What every stage does around its work: read params, report errors in one line, note how long it took."""

from __future__ import annotations

import os
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
INTERRUPTED = 130  # a shell's status for Ctrl-C


def run(name: str, work: Callable[[Params], None]) -> None:
    """Runs a stage's `work` on the params; exits with 1 and one line on a person's mistake or a full disk.

    Seconds go to `.cache/seconds/<name>.json`, which no stage tracks: a timing is no result. A temporary or queued run
    has its own, so that runs at the same time do not overwrite each other's, and leaves a copy by its name in the main
    workspace's `.cache/runs`, since DVC deletes its folder. Under DVC, which sets DVC_STAGE, the stage ends when
    DVC does; run by hand it outlives the shell that started it, as `nohup` expects.
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

"""What every stage does around its work: read params, report errors in one line, note how long it took."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from src.core.errors import InputError, one_line
from src.core.files import write_json
from src.core.params import Params
from src.core.params_file import load_params
from src.core.parent_watchdog import STARTED_BY, end_with
from src.core.processes import end_followers, fail, is_follower, wait_for_the_end
from src.core.runtime import cache_dir

INTERRUPTED = 130  # a shell's status for Ctrl-C


def run(name: str, work: Callable[[Params], None]) -> None:
    """Runs a stage's `work` on the params; exits with 1 and one line on a person's mistake or a full disk.

    Seconds go to `.cache/seconds/<name>.json`, which no stage tracks: a timing is no result. Under DVC, which sets
    DVC_STAGE, the stage ends when DVC does; run by hand it outlives the shell that started it, as `nohup` expects.
    """
    if "DVC_STAGE" in os.environ:
        end_with(STARTED_BY)
    start = time.perf_counter()
    try:
        work(load_params())
        write_json(cache_dir() / "seconds" / f"{name}.json", round(time.perf_counter() - start, 1))
    except (InputError, OSError, MemoryError) as error:
        fail(f"{name}: {one_line(error) or 'not enough memory'}")
    except RuntimeError:
        wait_for_the_end()
        raise
    except KeyboardInterrupt:
        if is_follower():
            sys.exit(INTERRUPTED)
        end_followers()
        print(f"{name}: interrupted; a training resumes from its last checkpoint", file=sys.stderr)  # noqa: T201
        sys.exit(INTERRUPTED)

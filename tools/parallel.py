"""Stages that do not wait for each other run at once: `python -m tools.parallel 2`, or `make report JOBS=2`.

Each stage is a `dvc repro --single-item` of its own, started when the stages before it are done, so that DVC decides
what is out of date, keeps the outputs and writes dvc.lock as ever. The jobs share the processor's cores in equal parts;
where the system cannot bind a process to cores (macOS), each takes all. A stage's number of threads is then the same
whatever runs beside it, and its results repeat byte for byte.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from tqdm import tqdm

LOGS: Final = Path(".cache") / "stages"
GLANCE: Final = 0.2  # seconds between looks at what has ended
TAIL: Final = 12  # lines of a failed stage's output that are shown
INTERRUPTED: Final = 130  # a shell's status for Ctrl-C
DVC: Final = (sys.executable, "-m", "dvc")


class Running(NamedTuple):
    """A stage that runs, and the place that it takes among the jobs."""

    stage: str
    place: int
    process: subprocess.Popen[bytes]


def reproduce(jobs: int) -> int:
    """Runs what is out of date, at most `jobs` stages at once; gives the exit status.

    A stage that fails lets those that run finish, and no other starts. After a Ctrl-C, a `kill` or a closed terminal
    those that run are interrupted and waited for: a training keeps its checkpoint.
    """
    before = parents()
    waiting = outdated(before)
    running: list[Running] = []
    hear_endings()
    try:
        return _run(waiting, before, running, jobs)
    except KeyboardInterrupt:
        end([one.process for one in running])
        return INTERRUPTED


def hear_endings() -> None:
    """A `kill` and a closed terminal interrupt this process as Ctrl-C does, also where a shell has that ignored."""
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Interrupts sessions of DVC, each with its stage, which DVC waits for without hearing anything, and waits."""
    for process in processes:
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(process.pid, signal.SIGINT)
    for process in processes:
        process.wait()


def _run(waiting: list[str], before: Mapping[str, set[str]], running: list[Running], jobs: int) -> int:
    LOGS.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    if waiting:
        print(f"What a stage prints goes to {LOGS}{os.sep}<stage>.txt", flush=True)
    with tqdm(total=len(waiting), unit="stage", smoothing=0) as bar:
        while running or (waiting and not failed):
            for stage in [] if failed else ready(waiting, running, before)[: jobs - len(running)]:
                waiting.remove(stage)
                place = min(set(range(jobs)) - {one.place for one in running})
                running.append(Running(stage, place, _start(stage, place, jobs)))
            bar.set_description(", ".join(one.stage for one in running))
            time.sleep(GLANCE)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                bar.update()
                if one.process.returncode:
                    failed.append(one.stage)
    for stage in failed:
        lines = log(stage).read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
        print(f"\n{stage} failed; the end of {log(stage)}:", *lines[-TAIL:], sep="\n", file=sys.stderr)
    return 1 if failed else 0


def ready(waiting: Sequence[str], running: Iterable[Running], before: Mapping[str, set[str]]) -> list[str]:
    """Stages that wait for none that is still to run or to end."""
    unfinished = {*waiting, *(one.stage for one in running)}
    return [stage for stage in waiting if not before[stage] & unfinished]


def _start(stage: str, place: int, jobs: int) -> subprocess.Popen[bytes]:
    with log(stage).open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  names of stages
            [*DVC, "--wait-for-lock", "repro", "--single-item", stage],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a signal reaches its stage too, and a terminal's Ctrl-C comes from here alone
        )
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, share(sorted(os.sched_getaffinity(0)), place, jobs))
    return process


def share(cores: Sequence[int], place: int, jobs: int) -> list[int]:
    """The cores of one job: equal parts, none in two of them while there are as many cores as jobs."""
    each = max(1, len(cores) // jobs)
    first = place * each % len(cores)
    return list(cores[first : first + each])


def log(stage: str) -> Path:
    """The file of what a stage prints."""
    return LOGS / f"{stage}.txt"


def parents() -> dict[str, set[str]]:
    """The stages before each stage, as DVC draws them."""
    drawn = subprocess.run([*DVC, "dag", "--dot"], stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603
    names = re.findall(r'^"([^"]+)";?$', drawn, re.MULTILINE)
    before: dict[str, set[str]] = {name: set() for name in names}
    for first, then in re.findall(r'^"([^"]+)" -> "([^"]+)";?$', drawn, re.MULTILINE):
        before[then].add(first)
    return before


def outdated(before: Mapping[str, set[str]]) -> list[str]:
    """Stages that DVC calls changed, and all that come after one."""
    asked = subprocess.run([*DVC, "status", "--json"], stdout=subprocess.PIPE, check=True)  # noqa: S603
    changed = set(json.loads(asked.stdout))
    while more := {stage for stage in before if stage not in changed and before[stage] & changed}:
        changed |= more
    return [stage for stage in before if stage in changed]


def main(arguments: Sequence[str]) -> int:
    """Reproduces all; gives the exit status."""
    if len(arguments) != 1 or not arguments[0].isdecimal() or int(arguments[0]) < 1:
        print(f"parallel: expected how many stages at once, found {' '.join(arguments) or 'nothing'}", file=sys.stderr)
        return 2
    return reproduce(int(arguments[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Stages that do not wait for each other run at once: `python -m tools.parallel 2`, or `make report JOBS=2`.

Each stage is a `dvc repro --single-item` of its own, started when the stages before it are done, so that DVC decides
what is out of date, keeps the outputs and writes dvc.lock as ever. The jobs share the processor's cores in equal parts;
where the system cannot bind a process to cores (macOS), each takes all. A stage's number of threads is then the same
whatever runs beside it, so its results repeat byte for byte. A run on all cores rounds differently, which in a training
comes to what another seed does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tqdm import tqdm

from tools.sessions import DVC, GLANCE, INTERRUPTED, Endings, end, start

LOGS: Final = Path(".cache") / "stages"
TAIL: Final = 12  # lines of a failed stage's output that are shown


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
    with Endings() as endings:
        try:
            before = parents()
            waiting = outdated(before)
        except subprocess.CalledProcessError as error:  # DVC has said why
            return INTERRUPTED if endings.heard else error.returncode
        return _run(waiting, before, jobs, endings)


def _run(waiting: list[str], before: Mapping[str, set[str]], jobs: int, endings: Endings) -> int:
    LOGS.mkdir(parents=True, exist_ok=True)
    running: list[Running] = []
    failed: list[str] = []
    if waiting:
        print(f"What a stage prints goes to {LOGS}{os.sep}<stage>.txt", flush=True)
    with tqdm(total=len(waiting), unit="stage", smoothing=0) as bar:
        while (running or (waiting and not failed)) and not endings.heard:
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
    if endings.heard:
        end([one.process for one in running])
        return INTERRUPTED
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
        process = start("--wait-for-lock", "repro", "--single-item", stage, output=output)
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


def stages_at_once(text: str) -> int:
    """The number that a text stands for.

    Raises:
        argparse.ArgumentTypeError: it stands for none, or for less than 1.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return int(text)


def main(arguments: Sequence[str]) -> int:
    """Reproduces all; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.parallel", description=str(__doc__).splitlines()[0])
    parser.add_argument("jobs", type=stages_at_once, help="stages at once")
    return reproduce(parser.parse_args(arguments).jobs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

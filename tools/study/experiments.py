"""A study's runs as experiments of DVC: what they share computed once, the rest queued, followed, stopped.

The study's settings stand in params.yaml only while its shared stages are computed and its runs are queued; a queued
run keeps them. Then the workspace is as it was before.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tqdm import tqdm

from src.core.errors import InputError
from src.core.files import atomic_write
from tools import settings
from tools.study.plan import Run, Study, override

LOCK: Final = Path("dvc.lock")
GLANCE: Final = 2.0  # seconds between looks at what has been finished
LOOK: Final = 15  # glances between questions to DVC, which take a second each
ENDED: Final = ("Failed", "Killed", "Success")


def finished(runs: Sequence[Run]) -> dict[str, str]:
    """The commit of each run's experiment, by the run's name; the newest where there are several."""
    listed = git("for-each-ref", "refs/exps", "--sort=committerdate", "--format=%(objectname) %(refname)")
    commits = {
        ref.rpartition("/")[2]: commit for commit, _, ref in (line.partition(" ") for line in listed.splitlines())
    }
    return {run.name: commits[run.name] for run in runs if run.name in commits}


def compute(study: Study, missing: Sequence[Run], jobs: int) -> None:
    """Computes what is missing.

    Args:
        study: whose settings hold.
        missing: its runs that have no result yet.
        jobs: how many at once.

    Raises:
        InputError: a stage failed.
        KeyboardInterrupt: a person stopped it; nothing stays queued, and a next call goes on from there.
    """
    names = [run.name for run in missing]
    try:
        with workspace_of(study):
            if settings.reproduce(study.file.target):
                raise InputError("a stage that all runs share failed; what it printed stands above")
            for run in tqdm(missing, "queue", unit="run", leave=False):
                _queue(run, study.file.target)
        dvc("queue", "start", "--jobs", str(jobs))
        _follow(study, missing)
    except KeyboardInterrupt:
        dvc("queue", "stop", "--kill")
        raise
    finally:
        _forget(names)


@contextmanager
def workspace_of(study: Study) -> Iterator[None]:
    """params.yaml with the study's settings; at the end all that Git has, and the outputs, are as they were."""
    before = {path: path.read_bytes() for path in _written() if path.is_file()}
    strangers = _unknown_metrics()
    had_lock = LOCK in before
    try:
        settings.apply(study.common | study.runs[0].settings)
        yield
    finally:
        for path, content in before.items():
            with atomic_write(path) as temporary:
                temporary.write_bytes(content)
        for path in _unknown_metrics() - strangers:
            path.unlink()
        if had_lock:
            git("add", str(LOCK))  # DVC put the study's there
            dvc("checkout", "--quiet")
        else:
            git("rm", "--quiet", "--cached", "--ignore-unmatch", str(LOCK))
            LOCK.unlink(missing_ok=True)


def _written() -> list[Path]:
    """Files in Git that a run changes."""
    return [settings.PARAMS, LOCK, *map(Path, git("ls-files", "metrics").splitlines())]


def _unknown_metrics() -> set[Path]:
    """Files of `metrics/` that Git neither has nor ignores: before the first run is committed there may be some."""
    return set(map(Path, git("ls-files", "--others", "--exclude-standard", "metrics").splitlines()))


def _queue(run: Run, target: str) -> None:
    given = [word for key, value in run.settings.items() for word in ("-S", override(key, value))]
    dvc("exp", "run", "--queue", "--name", run.name, *given, target)


def _follow(study: Study, runs: Sequence[Run]) -> None:
    """Shows how many runs are done, until all are or none goes on."""
    names = {run.name for run in runs}
    before = len(study.runs) - len(runs)
    with tqdm(total=len(study.runs), initial=before, desc=study.name, unit="run", smoothing=0) as bar:
        for glance in range(1, sys.maxsize):
            done = len(finished(runs))
            bar.update(before + done - bar.n)
            if done == len(runs):
                return
            if glance % LOOK == 0 and not (names & going_on()):
                break
            time.sleep(GLANCE)
    lacking = sorted(names - finished(runs).keys())
    if lacking:
        raise InputError(f"{len(lacking)} runs failed; `dvc queue logs {lacking[0]}` says why")


def going_on() -> set[str]:
    """Names of the runs that DVC's queue has not ended."""
    return {name for name, state in tasks().items() if state not in ENDED}


def tasks() -> dict[str, str]:
    """The state of each run in DVC's queue, by name: Queued, Running, Success, Failed or Killed."""
    rows = re.findall(r"^[0-9a-f]{7,}\s+(\S+)\s+.*?(\w+)\s*$", dvc("queue", "status"), re.MULTILINE)
    return dict(rows)


def _forget(names: Sequence[str]) -> None:
    """Takes runs that wait, and the notes of those that ended, out of DVC's queue; failed ones stay for their logs."""
    for name, state in tasks().items():
        if name in names and state in ("Queued", "Success"):
            dvc("queue", "remove", name)


def dvc(*arguments: str) -> str:
    """Runs DVC and gives what it printed.

    Raises:
        InputError: it failed.
    """
    return _run(sys.executable, "-m", "dvc", *arguments)


def git(*arguments: str) -> str:
    """Runs Git and gives what it printed.

    Raises:
        InputError: it failed.
    """
    return _run("git", *arguments)


def _run(*command: str) -> str:
    """Runs a command; what it prints goes to files, since a worker that it leaves behind would keep a pipe open."""
    with tempfile.TemporaryDirectory() as folder:
        printed, told = Path(folder, "printed"), Path(folder, "told")
        with printed.open("wb") as output, told.open("wb") as errors:
            done = subprocess.run(  # noqa: S603  names and settings that were checked
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, check=False
            )
        text, complaint = (file.read_text(encoding="utf-8", errors="replace") for file in (printed, told))
    if done.returncode:
        words = " ".join(command).removeprefix(f"{sys.executable} -m ")
        raise InputError(f"`{words}` failed: {complaint.strip() or text.strip() or done.returncode}")
    return text

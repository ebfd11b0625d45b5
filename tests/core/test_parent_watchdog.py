"""A process that ends with those that started it, shells between included."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from src.core import stage as common
from src.core.parent_watchdog import STARTED_BY, ancestors

PROJECT = Path(__file__).parents[2]

# Starts a child through a shell or directly, tells its number and waits.
PARENT = """
import os, subprocess, sys, time
command = [sys.executable, "-c", sys.argv[1]]
for shell in sys.argv[2:]:
    os.environ.update(COMMAND=sys.argv[1], PYTHON=sys.executable)
    command = [shell, "-c", '"$PYTHON" -c "$COMMAND"; true']
child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
print(child.stdout.readline(), flush=True)
time.sleep(600)
"""
CHILD = """
import os, time
from src.core.parent_watchdog import ancestors, end_with
started_by = ancestors()
{before}
end_with(started_by)
{after}
time.sleep(600)
"""
READY = "print(os.getpid(), flush=True)"
SHELLS = [[], ["/bin/sh"], ["/bin/bash"]]


def is_alive(process: int) -> bool:
    try:
        return psutil.Process(process).status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    "moment",
    [{"before": f"{READY}; time.sleep(2)", "after": ""}, {"before": "", "after": READY}],
    ids=["importing", "watching"],
)
@pytest.mark.parametrize("shell", SHELLS, ids=["direct", "sh", "bash"])
def test_a_killed_parent_takes_its_child_along(moment: dict[str, str], shell: list[str]) -> None:
    command = [sys.executable, "-c", PARENT, CHILD.format(**moment), *shell]
    parent = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        time.sleep(1.5)  # three times the watch's interval: nobody has ended yet
        assert is_alive(child)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 60
        while is_alive(child) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_alive(child)
    finally:
        parent.stdout.close()
        if is_alive(child):
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("shell", SHELLS, ids=["direct", "sh", "bash"])
def test_ancestors_are_the_parent_and_through_shells_the_one_before(shell: list[str]) -> None:
    command = [
        sys.executable,
        "-c",
        PARENT,
        "from src.core.parent_watchdog import ancestors; print(ancestors())",
        *shell,
    ]
    parent = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    try:
        told = parent.stdout.readline().strip(" []\n").split(", ")
    finally:
        parent.kill()
        parent.communicate()
    assert int(told[-1]) == parent.pid
    assert len(told) == 1 + len(shell)


def test_one_that_has_just_ended_cuts_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(process: psutil.Process) -> str:
        raise psutil.NoSuchProcess(process.pid)

    monkeypatch.setattr(psutil.Process, "name", gone)
    assert ancestors() == [os.getppid()]


@pytest.mark.parametrize("by_dvc", [True, False])
def test_only_a_stage_that_dvc_runs_ends_with_it(by_dvc: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched: list[list[int]] = []
    monkeypatch.setattr(common, "end_with", watched.append)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    if by_dvc:
        monkeypatch.setenv("DVC_STAGE", "ingest")
    common.run("ingest", lambda params: None)
    assert watched == ([STARTED_BY] if by_dvc else [])

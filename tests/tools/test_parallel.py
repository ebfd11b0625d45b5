"""Stages at once: which may start, that they do run at once, failures, interruptions, and what DVC says after."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.structure.project import PROJECT
from tools.parallel import share

# One stage of the little pipeline: it may wait for another to have begun, and may fail.
STAGE = """
import pathlib, sys, time
name, partner, fails = sys.argv[1:]
pathlib.Path("log.txt").open("a").write(f"begin {name}\\n")
deadline = time.monotonic() + 30
while partner != "-" and f"begin {partner}" not in pathlib.Path("log.txt").read_text():
    if time.monotonic() > deadline:
        sys.exit(f"{partner} never began beside {name}")
    time.sleep(0.05)
if fails == "slow":
    time.sleep(1)
if fails == "forever":
    time.sleep(600)
if fails == "fails":
    sys.exit(f"{name} does not work")
pathlib.Path(name + ".out").write_text(f"{name} {fails}")
pathlib.Path("log.txt").open("a").write(f"end {name}\\n")
"""
BEFORE = {"first": [], "left": ["first"], "right": ["first"], "last": ["left", "right"]}


@pytest.fixture
def pipeline(tmp_path: Path) -> Callable[..., Path]:
    """Makes a project of four stages, two of which do not wait for each other; arguments say what each does."""

    def made(**arguments: str) -> Path:
        (tmp_path / "stage.py").write_text(STAGE, encoding="utf-8")
        lines = ["stages:"]
        for name, parents in BEFORE.items():
            deps = ", ".join(["stage.py", *(f"{parent}.out" for parent in parents)])
            command = f"{sys.executable} stage.py {name} {arguments.get(name, '- works')}"
            lines += [f"  {name}:", f"    cmd: {command}", f"    deps: [{deps}]", f"    outs: [{name}.out]"]
        (tmp_path / "dvc.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        dvc(tmp_path, "init", "--no-scm", "--quiet")
        dvc(tmp_path, "config", "core.analytics", "false")
        return tmp_path

    return made


def dvc(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def start(folder: Path, jobs: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tools.parallel", jobs],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, jobs: str) -> tuple[int, str]:
    process = start(folder, jobs)
    printed, _ = process.communicate(timeout=120)
    return process.returncode, printed


def events(folder: Path) -> list[str]:
    return (folder / "log.txt").read_text(encoding="utf-8").splitlines()


def test_stages_run_at_once_in_the_order_of_the_pipeline_and_once(pipeline: Callable[..., Path]) -> None:
    """Each of the two in the middle ends only when the other has begun."""
    folder = pipeline(left="right works", right="left works")
    assert run(folder, "2")[0] == 0
    happened = events(folder)
    assert happened[:2] == ["begin first", "end first"]
    assert sorted(happened[2:4]) == ["begin left", "begin right"]
    assert happened[-2:] == ["begin last", "end last"]
    assert dvc(folder, "status").strip() == "Data and pipelines are up to date."
    (folder / "log.txt").unlink()
    assert run(folder, "2")[0] == 0
    assert not (folder / "log.txt").exists()  # nothing left to do


def test_with_one_job_none_runs_beside_another(pipeline: Callable[..., Path]) -> None:
    folder = pipeline()
    assert run(folder, "1")[0] == 0
    happened = events(folder)
    assert [line.replace("begin", "end") for line in happened[::2]] == happened[1::2]


def test_what_comes_after_a_change_runs_and_nothing_else(pipeline: Callable[..., Path]) -> None:
    folder = pipeline()
    assert run(folder, "2")[0] == 0
    (folder / "log.txt").unlink()
    pipeline_file = folder / "dvc.yaml"
    pipeline_file.write_text(pipeline_file.read_text(encoding="utf-8").replace("left - works", "left - other"))
    assert run(folder, "2")[0] == 0
    assert events(folder) == ["begin left", "end left", "begin last", "end last"]
    assert dvc(folder, "status").strip() == "Data and pipelines are up to date."


def test_what_dvc_refuses_is_its_own_line(tmp_path: Path) -> None:
    """No repository of DVC's."""
    status, printed = run(tmp_path, "2")
    assert status not in (0, 130)
    assert "Traceback" not in printed
    assert "not inside of a DVC repository" in printed


def test_a_failure_lets_the_others_finish_and_is_shown(pipeline: Callable[..., Path]) -> None:
    folder = pipeline(left="right fails", right="left slow")
    status, printed = run(folder, "2")
    assert status == 1
    assert "left does not work" in printed
    assert "left failed" in printed
    assert "end right" in events(folder)
    assert "begin last" not in events(folder)
    assert (folder / "right.out").is_file()


@pytest.mark.parametrize(("ending", "times"), [(signal.SIGINT, 3), (signal.SIGTERM, 1), (signal.SIGHUP, 1)])
def test_an_ended_run_leaves_no_process(ending: signal.Signals, times: int, pipeline: Callable[..., Path]) -> None:
    """Also where somebody is impatient."""
    folder = pipeline(left="right forever", right="left forever")
    process = start(folder, "2")
    deadline = time.monotonic() + 60
    while not {"begin left", "begin right"} <= set(events(folder) if (folder / "log.txt").exists() else []):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(living(folder)) >= 5  # this, and of each stage DVC and its command
    for _ in range(times):
        process.send_signal(ending)
        time.sleep(0.05)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert living(folder) == []


def living(folder: Path) -> list[int]:
    """Processes that work in a folder."""
    return [
        process.pid
        for process in psutil.process_iter(["cwd", "status"])
        if process.info["cwd"] == str(folder) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.parametrize("given", ["0", "1.5", "two", ""])
def test_a_number_that_is_none_is_refused(given: str, tmp_path: Path) -> None:
    status, printed = run(tmp_path, given)
    assert status == 2
    assert "expected a whole number from 1" in printed


@pytest.mark.parametrize(
    ("cores", "jobs", "expected"),
    [
        (2, 2, [[0], [1]]),
        (8, 3, [[0, 1], [2, 3], [4, 5]]),
        (5, 2, [[0, 1], [2, 3]]),
        (2, 3, [[0], [1], [0]]),
        (1, 2, [[0], [0]]),
        (4, 1, [[0, 1, 2, 3]]),
    ],
)
def test_cores_are_shared_equally(cores: int, jobs: int, expected: list[list[int]]) -> None:
    assert [share(range(cores), place, jobs) for place in range(jobs)] == expected

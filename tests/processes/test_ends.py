"""How several processes begin, put their work together, and end: with one line, and none left behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from src.core.errors import InputError
from src.core.processes import process_count
from tests.processes.conftest import Start
from tests.processes.program import ITEMS
from tests.stages.workspace import make_workspace

TORCHRUN = (sys.executable, "-m", "torch.distributed.run")


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_workspace(tmp_path, monkeypatch)


@pytest.mark.parametrize(("devices", "processes"), [("auto", 1), ("2", 2), ("3", 3)])
def test_the_first_process_has_all_results_in_order(start: Start, devices: str, processes: int) -> None:
    ended = start("gathered", devices)
    assert (ended.status, ended.lines) == (0, [])
    found, threads = json.loads(Path("gathered.json").read_text(encoding="utf-8"))
    assert found == [[item**2, item % processes] for item in range(ITEMS)]
    assert threads == max(1, 2 // processes)
    assert Path(".cache/seconds/gathered.json").exists()


def test_torchrun_starts_the_processes_too(start: Start) -> None:
    ended = start("gathered", "1", by=(*TORCHRUN, "--standalone", "--nproc-per-node", "2"))
    assert ended.status == 0, ended.lines
    found, _ = json.loads(Path("gathered.json").read_text(encoding="utf-8"))
    assert found == [[item**2, item % 2] for item in range(ITEMS)]


def test_what_others_have_set_is_not_asked(start: Start) -> None:
    """As a batch scheduler does, or a shell in which something else was tried."""
    chance = {"LOCAL_RANK": "0", "RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1"}
    ended = start("gathered", "2", env=chance)
    assert (ended.status, ended.lines) == (0, [])
    found, _ = json.loads(Path("gathered.json").read_text(encoding="utf-8"))
    assert found == [[item**2, item % 2] for item in range(ITEMS)]


@pytest.mark.parametrize(
    ("work", "line"),
    [
        ("all_fail", "all_fail: all: expected luck, found none"),
        ("follower_fails", "follower_fails: picture 7: expected a picture, found none"),
        ("follower_is_killed", "process 2 of 2 was killed (signal 9); all others end"),
        ("interrupted", "interrupted: interrupted; a training resumes from its last checkpoint"),
    ],
)
def test_processes_end_together_with_one_line(start: Start, work: str, line: str) -> None:
    ended = start(work, "2")
    assert ended.lines == [line]
    assert ended.status == (130 if work == "interrupted" else 1)
    assert not Path("survived").exists()
    assert not Path(f".cache/seconds/{work}.json").exists()


def test_the_others_end_soon_after_the_first_was_killed(start: Start) -> None:
    ended = start("first_is_killed", "2")  # comes back when no process has its output open any more
    assert ended.status == -9
    assert not Path("survived").exists()


@pytest.mark.parametrize(
    ("devices", "most", "processes"), [(1, None, 1), (8, None, 1), (8, 2, 2), (2, 8, 2), (4, 0, 1), (4, 4, 4)]
)
def test_no_more_processes_than_have_something_to_do(devices: int, most: int | None, processes: int) -> None:
    assert process_count(devices, 1, most) == (processes, 1)


@pytest.mark.parametrize(
    ("started", "nodes", "most", "message"),
    [
        ({}, 2, 8, "expected 1 for 'runtime.nodes', or a start by torchrun"),
        ({"WORLD_SIZE": "4"}, 1, 8, "expected 2 for 'runtime.nodes', as torchrun has it, found 1"),
        ({"WORLD_SIZE": "2"}, 1, None, "torchrun: expected one process for this stage, found 2"),
    ],
)
def test_machines_are_started_by_torchrun(
    monkeypatch: pytest.MonkeyPatch, started: dict[str, str], nodes: int, most: int | None, message: str
) -> None:
    if started:
        for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", **started}.items():
            monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        process_count(2, nodes, most)


def test_torchrun_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}.items():
        monkeypatch.setenv(name, value)
    assert process_count(1, 3, 4) == (2, 3)

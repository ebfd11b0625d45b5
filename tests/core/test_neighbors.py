"""Runs at the same time share the cores; each keeps its own seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.core import runtime
from src.core.neighbors import NOTES, kept_of_run, noted, runs_at_once
from src.core.params import RuntimeParams
from src.core.runtime import thread_count
from tests.structure.project import PROJECT

ALL = RuntimeParams("float32", 0, 1, 1)


@pytest.fixture
def queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The notes of a main workspace; the test moves to a copy of it, as a queued run does."""
    for name in ("main", "copy"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    monkeypatch.setattr(runtime, "available_cores", lambda: 8)
    return tmp_path / "main" / NOTES


def test_a_run_in_the_main_workspace_has_all_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "available_cores", lambda: 8)
    for root in (None, str(tmp_path)):
        monkeypatch.delenv("DVC_ROOT", raising=False)
        if root:
            monkeypatch.setenv("DVC_ROOT", root)
        with noted():
            assert runs_at_once() == 1
            assert thread_count(ALL) == 8
    assert list(tmp_path.iterdir()) == []


def test_queued_runs_share_the_cores(queued: Path) -> None:
    with noted():
        assert thread_count(ALL) == 8
        (queued / "another").write_text(str(os.getppid()))
        assert runs_at_once() == 2
        assert thread_count(ALL) == 4
        assert thread_count(RuntimeParams("float32", 3, 1, 1)) == 3
        for number in range(20):
            (queued / f"more-{number}").write_text(str(os.getpid()))
        assert thread_count(ALL) == 1
    assert "copy" not in {note.name for note in queued.iterdir()}


def test_runs_that_have_ended_count_no_more(queued: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with noted():
        (queued / "killed").write_text(str(ended.pid))
        (queued / "broken").write_text("x")
        assert runs_at_once() == 1
    with pytest.raises(KeyboardInterrupt), noted():
        raise KeyboardInterrupt
    assert not (queued / "copy").exists()


def test_each_copy_keeps_its_own_seconds(tmp_path: Path) -> None:
    main = tmp_path / "main"
    (main / ".cache/seconds").mkdir(parents=True)
    (main / ".cache/seconds/x.json").write_text("9.0")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/params.yaml").write_bytes((PROJECT / "params.yaml").read_bytes())
    env = {**os.environ, "DVC_ROOT": str(main), "DVC_EXP_NAME": "mine", "PYTHONPATH": str(PROJECT)}
    code = "from src.core.stage import run; run('x', lambda params: None)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "copy", env=env, check=True)
    assert float((tmp_path / "copy/.cache/seconds/x.json").read_text()) < 9
    assert (main / ".cache/seconds/x.json").read_text() == "9.0"
    kept = main / ".cache/runs/mine/x.json"  # outlives the copy
    assert kept.read_text() == (tmp_path / "copy/.cache/seconds/x.json").read_text()


def test_without_a_run_s_name_or_in_the_main_workspace_nothing_is_kept_twice(
    queued: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    assert kept_of_run() is None
    monkeypatch.setenv("DVC_EXP_NAME", "mine")
    assert kept_of_run() == queued.parents[1] / ".cache/runs/mine"
    monkeypatch.setenv("DVC_ROOT", str(Path.cwd()))
    assert kept_of_run() is None

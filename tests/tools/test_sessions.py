"""Endings are noted where they come, and only what is to be heard is; sessions end whole."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tools import sessions
from tools.sessions import INTERRUPTED, Endings, start, wait

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_ending_is_noted_and_not_raised(ending: signal.Signals) -> None:
    before = [signal.getsignal(one) for one in ENDINGS]
    with Endings() as endings:
        assert not endings.heard
        signal.raise_signal(ending)
        assert endings.heard
    assert [signal.getsignal(one) for one in ENDINGS] == before


@pytest.mark.parametrize(("ending", "heard"), [(signal.SIGINT, True), (signal.SIGHUP, False)])
def test_under_nohup_a_closed_terminal_ends_nothing_and_ctrl_c_does(ending: signal.Signals, heard: bool) -> None:
    before = signal.signal(ending, signal.SIG_IGN)
    try:
        with Endings() as endings:
            signal.raise_signal(ending)
            assert endings.heard == heard
        assert signal.getsignal(ending) == signal.SIG_IGN
    finally:
        signal.signal(ending, before)


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, program: str) -> subprocess.Popen[bytes]:
    """Starts a program as DVC is started."""
    (folder / "program.py").write_text(program, encoding="utf-8")
    monkeypatch.setattr(sessions, "DVC", (sys.executable, str(folder / "program.py")))
    return start()


def test_what_ends_by_itself_gives_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Endings() as endings:
        assert wait(stand_in(monkeypatch, tmp_path, "raise SystemExit(7)"), endings) == 7


def test_what_did_not_hear_at_first_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As DVC, between two stages, may take the first interruption for one that its stage has heard."""
    monkeypatch.setattr(sessions, "PATIENCE", 0.3)
    program = f"""
import pathlib, signal, time
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append(1))
pathlib.Path({str(tmp_path / "ready")!r}).touch()
while len(heard) < 2:
    time.sleep(0.05)
"""
    process = stand_in(monkeypatch, tmp_path, program)
    while not (tmp_path / "ready").exists():
        time.sleep(0.05)
    with Endings() as endings:
        signal.raise_signal(signal.SIGTERM)
        assert wait(process, endings) == INTERRUPTED
    assert not psutil.pid_exists(process.pid)


def test_output_goes_where_it_is_sent_with_the_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "program.py").write_text("import sys; print('a', flush=True); print('b', file=sys.stderr)")
    monkeypatch.setattr(sessions, "DVC", (sys.executable, str(tmp_path / "program.py")))
    with (tmp_path / "out.txt").open("wb") as output, Endings() as endings:
        assert wait(start(output=output), endings) == 0
    seen = (tmp_path / "out.txt").read_text(encoding="utf-8").split()
    assert sorted(seen) == ["a", "b"]

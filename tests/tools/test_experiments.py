"""The table of all runs, from DVC's rows: what differs, what came out, never too wide."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from src.evaluation.headline import HEADLINE
from tools import experiments
from tools.experiments import NO_RUN, NUMBERS, WIDTH, table


def row(name: str | None, typ: str = "branch_base", rev: str = "abc1234", **values: Any) -> dict[str, Any]:
    numbers = dict.fromkeys(HEADLINE, 0.5)
    notes = {"Created": "10:06 PM", "parent": None, "Executor": None, "State": None}
    return {
        "Experiment": name,
        "rev": rev,
        "typ": typ,
        **notes,
        **numbers,
        "a.b": 1.0,
        "a.c": "x",
        "data/a.h5": str(values),
        **values,
    }


WORKSPACE, HEAD = row(None, "baseline", "workspace", **{"a.b": 3.0}), row(None, "baseline", "main")


def test_every_headline_number_has_its_column() -> None:
    assert set(NUMBERS) == set(HEADLINE)


def test_runs_differences_and_numbers() -> None:
    better = row("better", box_ap50=0.75, mask_iou=None, **{"a.b": 2.5, "a.c": "y"})
    head, second, *lines = table([WORKSPACE, HEAD, row(None, "baseline", "older"), better])
    assert (head.split()[:2], second.split()[:2]) == (["box", "box"], ["run", "AP50"])
    assert [line.split()[0] for line in lines] == ["workspace", "HEAD", "better"]
    assert lines[0].endswith("0.500  a.b=3")
    assert lines[1].endswith("0.500")
    assert lines[2].split() == ["better", "0.750", "0.500", "0.500", "0.500", "-", *["0.500"] * 3, "a.b=2.5", "a.c=y"]


def test_queued_and_failed_runs_say_so() -> None:
    queued = row("later", "branch_commit", State="Queued", **dict.fromkeys(HEADLINE))
    lines = table([WORKSPACE, HEAD, queued, row("broken", State="Failed"), row("done", State="Success")])
    names = ["later (queued)", "broken (failed)", "done"]
    assert [line.startswith(name) for line, name in zip(lines[4:], names, strict=True)] == [True] * 3
    assert lines[4].split()[2:] == ["-"] * 8


def test_no_line_is_longer_than_the_page() -> None:
    many = {f"section.setting_{place}": "a value of some length" for place in range(40)}
    lines = table([WORKSPACE, HEAD, row("n" * 90, State="Running", **many), row("short", **{"a.k": "v" * 500})])
    assert max(map(len, lines)) <= WIDTH
    text = "".join(line.strip() for line in lines).replace(" ", "")
    assert all(f"{key}=avalueofsomelength" in text for key in many)


def test_no_runs_are_one_line() -> None:
    assert table([WORKSPACE, HEAD]) == [NO_RUN]


def test_experiments_of_earlier_commits_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert experiments.baselines() == []
    for command in ("init -q", "-c user.name=a -c user.email=b commit -q --allow-empty -m first"):
        subprocess.run(["git", *command.split()], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    for name in (f"{commit[:2]}/{commit[2:]}/one", f"{commit[:2]}/{commit[2:]}/two", "exec/EXEC_HEAD"):
        subprocess.run(["git", "update-ref", f"refs/exps/{name}", commit], check=True)
    assert experiments.baselines() == [commit]


def test_outside_a_project_it_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert experiments.main() == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1

"""Files are replaced whole or not at all."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.core.files import atomic_write, read_json, write_csv, write_json, write_text


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "metrics" / "deep" / "rpn.json"
    write_json(path, {"a": [1, 2.5, None], "ä": "ü"})
    write_json(path, {"b": 1})
    assert read_json(path) == {"b": 1}
    assert path.read_bytes().endswith(b"}\n")
    assert [file.name for file in path.parent.iterdir()] == ["rpn.json"]


def test_readers_see_the_old_file_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with atomic_write(path) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
        assert temporary.parent == path.parent  # one disk, so that the rename is atomic
    assert path.read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(error), atomic_write(path) as temporary:  # noqa: PT012
        temporary.write_text("half", encoding="utf-8")
        raise error
    assert path.read_text(encoding="utf-8") == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_leaves_no_file_where_there_was_none(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a.txt"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_what_json_cannot_hold_is_an_error(tmp_path: Path, value: object) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"value": value})
    assert json.loads(path.read_text(encoding="utf-8")) == {"old": 1}


def test_others_may_read_it(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def test_any_name(tmp_path: Path) -> None:
    for name in ("Grüße 图片.csv", ".hidden", "no suffix", "-dash.txt"):
        write_text(tmp_path / name, name)
        assert (tmp_path / name).read_text(encoding="utf-8") == name


def test_a_file_in_the_folder_s_place_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match="metrics"):
        write_text(tmp_path / "metrics" / "a.json", "")


def test_a_killed_process_s_leftovers_go_and_others_stay(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = [tmp_path / f".a b-{ended.pid}-x_y.h5", tmp_path / f".a b-{2**40}-z.h5"]
    living = [
        tmp_path / f".a b-{os.getppid()}-abc.h5",  # its process runs
        tmp_path / f".a b-other-{ended.pid}-abc.h5",  # of "a b-other.h5"
        tmp_path / f".a b-{ended.pid}-abc.txt",
        tmp_path / ".a b-notes.h5",
        tmp_path / "a b.h5",
    ]
    for file in dead + living:
        file.write_bytes(b"")
    write_text(tmp_path / "a b.h5", "new")
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in living}


def test_the_own_temporary_file_bears_the_process_s_number(tmp_path: Path) -> None:
    """So that a later process can tell whether its owner still runs."""
    with atomic_write(tmp_path / "a.h5") as outer, atomic_write(tmp_path / "a.h5") as inner:
        assert {outer.exists(), inner.exists()} == {True}
        assert outer.name.startswith(f".a-{os.getpid()}-")


def test_a_table_has_six_digits_and_empty_cells(tmp_path):
    write_csv(tmp_path / "a" / "recall.csv", ("proposals", "before", "after"), [("10", 1 / 3, None), ("200", 0, 1.0)])
    assert (tmp_path / "a" / "recall.csv").read_text() == "proposals,before,after\n10,0.333333,\n200,0,1\n"


def test_a_cell_with_commas_quotes_or_line_breaks_is_quoted(tmp_path: Path) -> None:
    rows = [("a, b", 'say "c"'), ("two\nlines", "plain"), ("", "1")]
    write_csv(tmp_path / "a.csv", ("x", "y"), rows)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["x", "y"], *map(list, rows)]
    assert 'two\nlines",plain\n,1\n' in (tmp_path / "a.csv").read_text(encoding="utf-8")

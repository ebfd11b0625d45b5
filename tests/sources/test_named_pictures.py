"""Pictures as people name them on the command line, and where their results go."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from src.core.errors import InputError
from src.sources.named_pictures import LONGEST_NAME, find_pictures, result_stem, short_name

ROOT = Path(__file__).parents[2]
ODD = ["my photo.jpg", "two  spaces.jpg", 'it\'s "1".jpg', "$HOME $(id) $$.jpg", "a#1.jpg", "Grüße 图片.jpg", "~.jpg"]


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and a home folder beside it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def named(*texts: str) -> list[str]:
    return [path.as_posix() for path in find_pictures(texts)]


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_taken_as_it_is(name: str) -> None:
    touch(name, "b.jpg")
    assert named(name) == [name]
    assert named(f"{name} b.jpg") == [name, "b.jpg"]
    assert named(f"b.jpg\t{name}") == ["b.jpg", name]


def test_the_longest_name_that_exists_wins() -> None:
    touch("a", "a b.jpg", "b.jpg")
    assert named("a b.jpg") == ["a b.jpg"]
    assert named("a a b.jpg b.jpg") == ["a", "a b.jpg", "b.jpg"]


def test_a_folder_gives_its_pictures_and_each_comes_once() -> None:
    touch("in/b.jpg", "in/a.png", "in/notes.txt", "in/below/c.jpg")
    assert named("in") == ["in/a.png", "in/b.jpg"]
    assert named("in/b.jpg", "in", "./in/a.png") == ["in/b.jpg", "in/a.png"]
    touch("empty/notes.txt")
    with pytest.raises(InputError, match="empty: expected a picture, found a folder without pictures"):
        find_pictures(["empty"])


def test_a_tilde_is_the_home_folder_unless_a_file_has_that_name() -> None:
    home = Path(os.environ["HOME"])
    touch(str(home / "a.jpg"), str(home / "c.jpg"), "~/a.jpg")
    assert named("~/a.jpg") == ["~/a.jpg"]
    assert named("~/c.jpg") == [(home / "c.jpg").as_posix()]
    assert named("~nobody-of-this-name/a.jpg") == ["~nobody-of-this-name/a.jpg"]


def test_what_is_not_there_is_left_to_its_reader() -> None:
    touch("a.jpg")
    assert named("no such.jpg") == ["no such.jpg"]
    assert named("a.jpg gone.jpg") == ["a.jpg", "gone.jpg"]


def test_pictures_of_one_name_have_their_own_results(workspace: Path) -> None:
    results = Path("predictions")
    files = [Path("a.jpg"), Path("in/a.jpg"), Path("../home/a.jpg"), Path("/a.jpg")]
    stems = [result_stem(file, results) for file in files]
    outside = (workspace.parent / "home/a.jpg").as_posix().lstrip("/")
    assert [stem.as_posix() for stem in stems[:3]] == [
        "predictions/a.jpg",
        "predictions/in/a.jpg",
        f"predictions/{outside}",
    ]
    assert result_stem(workspace / "in/../a.jpg", results) == stems[0]
    assert all(stem.is_relative_to(results) and ".." not in stem.parts for stem in stems)


def test_long_names_leave_room_for_endings() -> None:
    assert short_name("a" * LONGEST_NAME) == "a" * LONGEST_NAME
    one, other = (short_name("図" * 84 + end) for end in ("a", "b"))
    assert one != other
    assert len(os.fsencode(one)) <= LONGEST_NAME


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("name", [*ODD, "$(a", "`id`;exit"])
def test_make_passes_a_name_as_it_was_typed(workspace: Path, name: str) -> None:
    """Through the Makefile, with a `python` that says what it is given."""
    shutil.copy(ROOT / "Makefile", workspace)
    touch("requirements.txt", "requirements-torch.txt", "tools/dvc.sh", ".venv/made")
    touch(".venv/ready")
    (workspace / ".venv/made").write_text(f"{workspace}\n", encoding="utf-8")
    python = workspace / ".venv/bin/python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    command = ["make", "predict", f"IMAGE={name}"]
    clean = {
        key: value for key, value in os.environ.items() if not key.startswith("MAKE")
    }  # of a make around the tests
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"-m\nstages.predict\n{name}\n"), done.stderr

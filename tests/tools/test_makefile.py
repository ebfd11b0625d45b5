"""The project as people get it: what `make`, `.venv/bin/dvc` and a stage say where it is not set up as they need it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.structure.project import ORDER, PROJECT


def run(folder: Path, *command: str) -> tuple[int, list[str]]:
    """A command's status and lines, outside of any Git repository, by a person whose name Git does not know."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "MAKE", "PYTHON"))}
    clean |= {"GIT_CEILING_DIRECTORIES": str(folder.parent), "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    clean |= {"GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, (done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize("target", ["report", "quick", "photos", "predict", "check", "test", "bench"])
def test_a_zip_of_the_project_is_told_to_become_a_repository_first(tmp_path: Path, target: str) -> None:
    for name in ("Makefile", "requirements.txt", "requirements-torch.txt", "requirements-test.txt", "tools"):
        (tmp_path / name).symlink_to(PROJECT / name)
    status, lines = run(tmp_path, "make", target)
    assert status == 2
    assert lines[0] == "make: DVC works in a Git repository, and this folder is none; first: git init"
    assert not (tmp_path / ".venv").exists()


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A project with a `.venv` as make leaves it, but for packages, whose folder has then been renamed."""
    before, after = tmp_path / "before", tmp_path / "größe (2) it's"
    (before / "tools").mkdir(parents=True)
    shutil.copy(PROJECT / "Makefile", before)
    venv.create(before / ".venv", symlinks=True)
    (before / ".venv/made").write_text(f"{before}\n", encoding="utf-8")
    shutil.copy(PROJECT / "tools/dvc.sh", before / ".venv/bin/dvc")
    (before / ".venv/bin/dvc").chmod(0o755)
    before.rename(after)
    return after


def test_a_renamed_project_can_be_activated_again(environment: Path) -> None:
    where = 'source .venv/bin/activate && python -c "import sys; print(sys.prefix)" && echo "$VIRTUAL_ENV"'
    assert str(environment / ".venv") not in run(environment, "bash", "-c", where)[1]
    assert run(environment, "make", "placed") == (0, [])
    assert run(environment, "bash", "-c", where) == (0, [str(environment / ".venv")] * 2)
    made = (environment / ".venv/pyvenv.cfg").stat().st_mtime_ns
    assert run(environment, "make", "placed") == (0, [])
    assert (environment / ".venv/pyvenv.cfg").stat().st_mtime_ns == made


def stand_in(environment: Path) -> None:
    """A module `dvc` that says how it was started, and which `python` and `dvc` a stage would find."""
    packages = next(environment.glob(".venv/lib/python*/site-packages"))
    text = "import shutil, sys; print(sys.argv[1:], shutil.which('python'), shutil.which('dvc'))"
    (packages / "dvc.py").write_text(text, encoding="utf-8")


def test_dvc_without_activation_finds_the_environment_wherever_it_lies(environment: Path, tmp_path: Path) -> None:
    stand_in(environment)
    scripts = environment / ".venv/bin"
    (tmp_path / "link").symlink_to(scripts / "dvc")
    for program in (scripts / "dvc", tmp_path / "link"):
        status, lines = run(tmp_path, str(program), "repro", "two words", "$HOME")
        assert (status, lines) == (0, [f"{['repro', 'two words', '$HOME']} {scripts / 'python'} {scripts / 'dvc'}"])


@pytest.mark.parametrize("command", ["exp", "experiments"])
def test_an_experiment_of_nobody_is_refused_before_it_runs(environment: Path, command: str) -> None:
    stand_in(environment)
    run(environment, "git", "init")
    dvc = ".venv/bin/dvc"
    status, lines = run(environment, dvc, command, "run")
    assert (status, len(lines)) == (1, 1)
    first, second = re.findall(r"git config user\.\w+ \S+", lines[0].replace("'Your Name'", "Name"))
    assert run(environment, dvc, command, "show")[0] == 0
    for line in (first, second):
        assert run(environment, *line.split()) == (0, [])
    assert run(environment, dvc, command, "run")[0] == 0


@pytest.mark.parametrize(
    "command", [("exp", "run", "--temp"), ("exp", "run", "-n", "x", "--queue"), ("queue", "start")]
)
def test_runs_in_a_copy_are_refused_where_dvc_would_fail(environment: Path, command: tuple[str, ...]) -> None:
    stand_in(environment)
    run(environment, "git", "init")
    for key in ("user.name", "user.email"):
        run(environment, "git", "config", key, "x@y")
    status, lines = run(environment, ".venv/bin/dvc", *command)
    assert (status, len(lines)) == (1, 1)
    assert "rename it" in lines[0]
    assert run(environment, ".venv/bin/dvc", "exp", "run", "-n", "--queue-not")[0] == 0
    plain = environment.rename(environment.with_name("it's (2) ~!"))
    assert run(plain, ".venv/bin/dvc", *command)[0] == 0


def test_make_names_what_experiments_will_need(environment: Path) -> None:
    run(environment, "git", "init")
    status, lines = run(environment, "make", "identity")
    assert (status, len(lines)) == (0, 1)
    assert "git config user.name 'Your Name' && git config user.email" in lines[0]
    for key in ("user.name", "user.email"):
        run(environment, "git", "config", key, "x@y")
    assert run(environment, "make", "identity") == (0, [])


def test_a_python_without_the_packages_says_what_to_do(tmp_path: Path) -> None:
    for name in ("src", "stages"):
        (tmp_path / name).symlink_to(PROJECT / name)
    status, lines = run(
        tmp_path, sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, '.'); import stages"
    )
    assert status == 1
    assert lines == [
        f"{sys.executable} has no torch; first: source .venv/bin/activate (after `make report` or `make quick`)"
    ]


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_that_is_started_as_a_file_says_how_it_runs(stage: str) -> None:
    for program in (f"stages/{stage}", f"stages/{stage}/__main__.py"):
        status, lines = run(PROJECT, sys.executable, program)
        assert (status, len(lines)) == (1, 1)
        assert lines[0].endswith(f"python -m stages.{stage}")

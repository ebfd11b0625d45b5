"""Sizes of files and functions, paths that only one machine has, and what the front door promises."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.structure.project import PROJECT, tracked_files

CODE = sorted(path for folder in ("src", "stages", "tools") for path in (PROJECT / folder).rglob("*.py"))
LONGEST_FILE = 280  # the design asks for 60 to 250 lines; a flat list may run over a little
LONGEST_FUNCTION = 45
# Folders that exist on one machine: a home, a temporary folder, a mounted disk.
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(?:home|root|Users|tmp|mnt|opt|work|var)/[\w.]+")
MACHINE_PATHS_ALLOWED = {Path("tests/structure/test_house.py")}


def name_of(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_no_file_is_long(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_no_function_is_long(path):
    functions = (n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.FunctionDef))
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions if f.end_lineno - f.lineno >= LONGEST_FUNCTION}
    assert long == {}


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_no_tracked_file_names_a_folder_of_one_machine():
    found = {}
    for path in tracked_files():
        name = path.relative_to(PROJECT)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if name not in MACHINE_PATHS_ALLOWED and (hit := MACHINE_PATH.search(text)):
            found[name.as_posix()] = hit.group()
    assert found == {}


def test_the_readme_and_continuous_integration_give_the_same_command():
    assert "exec make test" in (PROJECT / ".ci" / "run").read_text(encoding="utf-8")
    assert ".ci/run" in (PROJECT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^make test$", readme, flags=re.MULTILINE)
    assert re.search(r"^make report$", readme, flags=re.MULTILINE)


def test_every_make_target_that_the_readme_names_exists():
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    named = set(
        re.findall(r"(?:^|`)make ([a-z]+)", (PROJECT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    assert named <= set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    assert {"report", "test", "predict"} <= named


def test_the_pinned_set_meets_the_ranges_and_names_no_registry():
    pinned = "".join((PROJECT / f).read_text("utf-8") for f in ("requirements.txt", "requirements-test.txt"))
    assert "://" not in pinned
    ranges = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    for name in re.findall(r'^    "([a-zA-Z0-9._-]+)[=><]', ranges, flags=re.MULTILINE):
        assert re.search(rf"^{re.escape(name.replace('.', '-'))}==", pinned, flags=re.MULTILINE), name

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
DEVICE = re.compile(r"(?:cuda|mps|xpu|cpu)(?::\S*)?")  # with a number, or with a place for one
MACHINE_PATHS_ALLOWED = {Path("tests/structure/test_repository.py")}


def name_of(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_no_file_is_long(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_no_function_is_long(path: Path) -> None:
    functions = (n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.FunctionDef))
    lengths = [(function.name, (function.end_lineno or 0) - function.lineno + 1) for function in functions]
    assert [(name, length) for name, length in lengths if length > LONGEST_FUNCTION] == []


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def device_names(tree: ast.AST) -> list[str]:
    """Devices that the code asks for by name, also in parts; `map_location` and asking for a type name none."""
    nodes = list(ast.walk(tree))
    allowed = {id(node.value) for node in nodes if isinstance(node, ast.keyword) and node.arg == "map_location"}
    allowed |= {id(value) for node in nodes if isinstance(node, ast.Compare) for value in node.comparators}
    strings = (node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in allowed)
    named = [text for text in strings if isinstance(text, str) and DEVICE.fullmatch(text)]
    return named + [node.attr for node in nodes if isinstance(node, ast.Attribute) and node.attr in {"cuda", "mps"}]


@pytest.mark.parametrize("path", [path for path in CODE if path.name != "runtime.py"], ids=name_of)
def test_no_file_but_the_runtime_names_a_device(path: Path) -> None:
    assert device_names(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        'x.to("cuda:0")',
        'x.to(f"cuda:{0}")',
        'x.to(f"cuda:{number:d}")',
        'x.to("cuda:" + str(0))',
        'x.to("cuda:{}".format(0))',
        'x.to("cuda:%d" % 0)',
        "x.cuda()",
        'zeros(3, device="cpu")',
        "torch.cuda.is_available()",
    ],
)
def test_devices_that_are_named_are_found(code: str) -> None:
    assert len(device_names(ast.parse(code))) == 1


@pytest.mark.parametrize("page", ["exactness.md", "reliability.md"])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    """Paths from the root, `path::test`, and bare names; `test_a_b_...` stands for a beginning."""
    text = (PROJECT / "docs" / page).read_text(encoding="utf-8")
    tests = {name_of(path): path.read_text("utf-8") for path in (PROJECT / "tests").rglob("test_*.py")}
    defined = {name for content in tests.values() for name in re.findall(r"^def (test_\w+)", content, re.MULTILINE)}
    named = re.findall(r"`(?:(tests/[\w/.]+))?(?:::)?(?:(test_\w+|\.\.\._\w+)(\.\.\.)?)?`", text)
    assert sum(bool(path or test) for path, test, _ in named) > 10
    for path, test, more in named:
        assert not path or (PROJECT / path).exists(), path
        known = set(re.findall(r"^def (test_\w+)", tests[path], re.MULTILINE)) if path in tests else defined
        if test.startswith("..."):
            assert any(name.endswith(test[3:]) for name in known), test
        elif test:
            assert any(name.startswith(test) for name in known) if more else test in known, test


def test_no_tracked_file_names_a_folder_of_one_machine() -> None:
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


def test_the_readme_and_continuous_integration_give_the_same_command() -> None:
    assert "exec make test" in (PROJECT / ".ci" / "run").read_text(encoding="utf-8")
    assert ".ci/run" in (PROJECT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^make test\b", readme, flags=re.MULTILINE)
    assert re.search(r"^make report\b", readme, flags=re.MULTILINE)
    assert re.search(r"^make quick\b", readme, flags=re.MULTILINE)


def test_every_make_target_that_the_readme_names_exists() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    named = set(
        re.findall(r"(?:^|`)make ([a-z]+)", (PROJECT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    assert named <= set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    assert {"report", "test", "predict"} <= named


def test_the_pinned_set_meets_the_ranges_and_names_no_registry() -> None:
    pinned = "".join((PROJECT / f"requirements{part}.txt").read_text("utf-8") for part in ("", "-torch", "-test"))
    assert "://" not in pinned
    ranges = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    for name in re.findall(r'^    "([a-zA-Z0-9._-]+)[=><]', ranges, flags=re.MULTILINE):
        assert re.search(rf"^{re.escape(name.replace('.', '-'))}==", pinned, flags=re.MULTILINE), name


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-test.txt"])
def test_every_pinned_package_has_its_hashes(name: str) -> None:
    lines = [line for line in (PROJECT / name).read_text("utf-8").splitlines() if not line.startswith("#")]
    starts = [place for place, line in enumerate(lines) if not line.startswith(" ")]
    assert len(starts) > 20
    for place in starts:
        assert re.fullmatch(r"[a-z0-9._-]+==[^ ]+( ; .+)? \\", lines[place]), lines[place]
        assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", lines[place + 1]), lines[place]

"""Which files of `src` and `stages` each stage runs, written into `dvc.yaml` so that nobody keeps the lists by hand.

DVC reruns a stage when a listed dependency changes, and knows nothing of Python's imports. This module walks them:

    python -m tools.code_deps           # says where dvc.yaml and the imports differ; exit status 1 if they do
    python -m tools.code_deps --write   # rewrites the lists

A stage depends on its own module, on every module that one imports, directly or not, and on every other file under
`src` (a template, a table) that one of them names in a string, by itself or by its folder. A package's `__init__.py`
counts if it holds more than a docstring. Imports under `if TYPE_CHECKING:` do not run and do not count.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ruamel.yaml import YAML

PROJECT = Path(__file__).resolve().parent.parent
CODE = ("src", "stages")


def code_deps(stage: str, project: Path = PROJECT) -> list[str]:
    """Files that `python -m stages.<stage>` runs or reads under `src` and `stages`, sorted, relative to `project`."""
    found: set[Path] = set()
    waiting = [project / "stages" / f"{stage}.py"]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting.extend(imported_files(file, project))
    assets = {asset for file in found for asset in named_assets(file, project)}
    return sorted(file.relative_to(project).as_posix() for file in found | assets)


@cache
def imported_files(file: Path, project: Path) -> frozenset[Path]:
    """The files behind the import statements of one module, as far as they lie in the project."""
    names = {name for node in _running_nodes(_parse(file)) for name in _imported_names(node, file, project)}
    return frozenset(path for name in names for path in _files_of(name, project))


@cache
def named_assets(file: Path, project: Path) -> frozenset[Path]:
    """Files other than modules under `src` whose name, or whose folder's name, stands in a string of `file`."""
    texts = [n.value for n in ast.walk(_parse(file)) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    words = {Path(text).name for text in texts if text and len(text) < 200 and "\n" not in text}
    return frozenset(asset for asset in assets(project) if asset.name in words or asset.parent.name in words)


@cache
def assets(project: Path) -> frozenset[Path]:
    """Files under `src` that are no modules: templates, tables."""
    files = (file for file in (project / "src").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return frozenset(file for file in files if file.suffix not in (".py", ".pyc") and not file.name.startswith("."))


def _parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def _running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes, without the bodies of `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from _running_nodes(child)


def _imported_names(node: ast.AST, file: Path, project: Path) -> Iterator[str]:
    """Dotted names that an import statement may load; `from a import b` may load `a.b` or only `a`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = file.relative_to(project).parent.parts
            base = ".".join([*package[: len(package) - node.level + 1], *base.split(".")]).strip(".")
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _files_of(name: str, project: Path) -> Iterator[Path]:
    """The module's own file, and the `__init__.py` of each package above it that does something."""
    parts = name.split(".")
    if parts[0] not in CODE:
        return
    for depth in range(1, len(parts) + 1):
        path = project.joinpath(*parts[:depth])
        package = path / "__init__.py"
        if package.is_file() and any(not isinstance(node, ast.Expr) for node in _parse(package).body):
            yield package
    module = project.joinpath(*parts).with_suffix(".py")
    if module.is_file():
        yield module


def is_code(dependency: str) -> bool:
    """Whether a dependency in `dvc.yaml` is one that this module maintains."""
    return dependency.split("/", maxsplit=1)[0] in CODE


def listed(text: str) -> dict[str, list[str]]:
    """The code dependencies that `dvc.yaml` lists, by stage."""
    stages = YAML(typ="safe", pure=True).load(text)["stages"]
    return {name: [dep for dep in stage.get("deps", []) if is_code(dep)] for name, stage in stages.items()}


def rewritten(text: str, project: Path = PROJECT) -> str:
    """`dvc.yaml` with the code dependencies of every stage replaced; all else, comments too, as it was."""
    lines: list[str] = []
    stage = ""
    in_deps = False
    for line in text.splitlines():
        if line.startswith("  ") and line[2:3].isalpha():
            stage = line.strip().rstrip(":")
        in_list = line.startswith("      - ")
        if in_deps and not in_list:
            lines.extend(f"      - {dep}" for dep in code_deps(stage, project))
        in_deps = line == "    deps:" or (in_deps and in_list)
        if not (in_deps and in_list and is_code(line.strip()[2:])):
            lines.append(line)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compares, or with `--write` rewrites, and says what differs."""
    parser = argparse.ArgumentParser(description="Code dependencies of the stages in dvc.yaml")
    parser.add_argument("--write", action="store_true", help="rewrite the lists in dvc.yaml")
    write = parser.parse_args().write
    path = PROJECT / "dvc.yaml"
    text = path.read_text(encoding="utf-8")
    known = listed(text)
    if missing := [name for name in known if not (PROJECT / "stages" / f"{name}.py").is_file()]:
        sys.exit(f"dvc.yaml names stages without a module: {', '.join(missing)}")
    wrong = {name for name, deps in known.items() if deps != code_deps(name)}
    if write and wrong:
        path.write_text(rewritten(text), encoding="utf-8")
    for name in sorted(wrong):
        print(f"dvc.yaml: the code dependencies of '{name}' {'were rewritten' if write else 'differ from its imports'}")
    sys.exit(0 if write or not wrong else "run: python -m tools.code_deps --write")


if __name__ == "__main__":
    main()

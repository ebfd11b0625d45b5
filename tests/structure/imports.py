"""Which modules of the project a module runs, by walking its import statements."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CODE = ("src", "stages")


def imported_modules(file: Path, project: Path) -> set[Path]:
    """The module itself and all that it imports, directly or not, under `src` and `stages`; paths in `project`."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting.extend(_imported_files(module, project))
    return found


@cache
def _imported_files(file: Path, project: Path) -> frozenset[Path]:
    """The files behind the import statements of one module, as far as they lie in the project."""
    tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    names = {name for node in ast.walk(tree) for name in _imported_names(node)}
    return frozenset(path for name in names for path in _files_of(name, project))


def _imported_names(node: ast.AST) -> Iterator[str]:
    """Dotted names that an import statement may load; `from a import b` may load `a.b` or only `a`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        yield node.module or ""
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files_of(name: str, project: Path) -> Iterator[Path]:
    """The module's own file, and the `__init__.py` of each package above it."""
    parts = name.split(".")
    if parts[0] not in CODE:
        return
    for depth in range(1, len(parts) + 1):
        package = project.joinpath(*parts[:depth], "__init__.py")
        if package.is_file():
            yield package
    module = project.joinpath(*parts).with_suffix(".py")
    if module.is_file():
        yield module

"""The walk through the import graph, on a small project made here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.structure.imports import imported_modules

FILES = {
    "stages/one/__main__.py": "from src.alone import f\n",
    "stages/two/__main__.py": "import src.group.deep\nfrom src import table\n",
    "stages/three/__main__.py": "def f():\n    from src.group import shown\n",
    "src/__init__.py": '"""Nothing."""\n',
    "src/alone.py": "import json\n",
    "src/table.py": "",
    "src/group/__init__.py": "",
    "src/group/shown.py": "from src.group import deep\n",
    "src/group/deep.py": "import os, src.alone\n",
}
GROUP = {"src/__init__.py", "src/alone.py", "src/group/__init__.py", "src/group/deep.py"}


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("one", {"src/__init__.py", "src/alone.py"}),
        ("two", {*GROUP, "src/table.py"}),
        ("three", {*GROUP, "src/group/shown.py"}),
    ],
)
def test_a_module_runs_what_it_imports_directly_or_not(tmp_path: Path, stage: str, expected: set[str]) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    start = tmp_path / "stages" / stage / "__main__.py"
    found = {path.relative_to(tmp_path).as_posix() for path in imported_modules(start, tmp_path)}
    assert found - {start.relative_to(tmp_path).as_posix()} == expected

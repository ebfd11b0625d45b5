"""The walk through the import graph, on a small project made here."""

from __future__ import annotations

import pytest

from tools.code_deps import code_deps, rewritten

FILES = {
    "stages/one.py": "from src.alone import f\n",
    "stages/two.py": "import src.group.deep\nfrom src import table\n",
    "stages/three.py": "def f():\n    from src.group import deep\n",
    "stages/four.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from src.alone import f\n",
    "src/__init__.py": '"""Nothing."""\n',
    "src/alone.py": "import json\n",
    "src/table.py": 'PATH = "table.json"\n',
    "src/table.json": "{}",
    "src/other.json": "{}",
    "src/page.py": 'FOLDER = "templates"\n',
    "src/templates/page.html": "",
    "src/group/__init__.py": "from .shown import x\n",
    "src/group/shown.py": "from . import deep\nfrom ..page import FOLDER\n",
    "src/group/deep.py": "import os, src.alone\n",
}
GROUP = ["src/alone.py", "src/group/__init__.py", "src/group/deep.py", "src/group/shown.py", "src/page.py"]


@pytest.fixture
def project(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("one", ["src/alone.py", "stages/one.py"]),
        ("two", [*GROUP, "src/table.json", "src/table.py", "src/templates/page.html", "stages/two.py"]),
        ("three", [*GROUP, "src/templates/page.html", "stages/three.py"]),
        ("four", ["stages/four.py"]),
    ],
)
def test_a_stage_depends_on_what_it_runs_and_reads(project, stage, expected):
    assert code_deps(stage, project) == expected


def test_rewriting_keeps_data_comments_and_other_keys(project):
    text = (
        "# A comment.\nstages:\n  one:\n    cmd: x\n    deps:\n      - data/a.h5\n      - src/gone.py\n    outs:\n"
        "      - src/no_dependency.py\n  four:\n    cmd: x\n    deps:\n      - stages/old.py\n\nmetrics:\n  - m.json\n"
    )
    expected = text.replace("      - src/gone.py\n", "      - src/alone.py\n      - stages/one.py\n")
    assert rewritten(text, project) == expected.replace("stages/old.py", "stages/four.py")

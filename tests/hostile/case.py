"""What a case of broken input is, and how a stage meets it: as `python -m stages.<name>` would, in this process.

A stage that refuses exits with one line on stderr and leaves every file of its folder as it was. Old outputs lie there
beforehand, so that a half-written one, a lost one or a forgotten temporary file shows.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from src.core import stage as common
from src.core.params import Params
from tests.pipeline.workspace import TINY

PROJECT = Path(__file__).parents[2]
SHIPPED = YAML(typ="safe", pure=True).load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
OUTPUTS = (
    "data/dataset.h5",
    "metrics/ingest.json",
    "models/backbone.pt",
    "models/detector.pt",
    "data/pictures.json",
    "data/export.json",
)

Files = dict[str, bytes | str]
Work = Callable[[Params], None]


@dataclass(frozen=True)
class Case:
    """`spoil` breaks a good set in a folder; `words` are what the complaint must say."""

    spoil: Callable[[Path], None]
    words: tuple[str, ...]


def case(spoil: Callable[[Path], None], *words: str) -> Case:
    return Case(spoil, words)


def params_text(**changes: Any) -> str:
    """The shipped parameters, tiny, with some changed: `data__source="course"`. JSON is YAML 1.2."""
    tree = copy.deepcopy(SHIPPED)
    for name, value in (TINY | {key.replace("__", "."): value for key, value in changes.items()}).items():
        *sections, key = name.split(".")
        branch = tree
        for section in sections:
            branch = branch[section]
        branch[key] = value
    return json.dumps(tree)


def lay_out(folder: Path, text: str) -> None:
    """A workspace with params.yaml and the outputs of an earlier run."""
    (folder / "params.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
    for name in OUTPUTS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("of an earlier run")


def files(folder: Path) -> Files:
    """Every file and link below a folder, with its bytes."""
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    return {str(path): _content(path) for path in paths}


def _content(path: Path) -> bytes | str:
    if not path.is_file():
        return "a link to nothing"
    size = path.stat().st_size
    return path.read_bytes() if size < 2**28 else f"{size} bytes"


@dataclass(frozen=True)
class Stage:
    """Runs a stage in the folder, which is the working directory."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def refuses(self, name: str, work: Work, *words: str) -> str:
        """Checks that the stage exits with one line that holds the words, and touches no file; returns the line."""
        before = files(self.folder)
        self.capture.readouterr()
        with warnings.catch_warnings(record=True) as warned, pytest.raises(SystemExit) as ended:
            common.run(name, work)
        assert [str(one.message) for one in warned if not issubclass(one.category, DeprecationWarning)] == []
        # Python prints a text that it exits with on stderr, and the status is then 1.
        assert isinstance(ended.value.code, str)
        line = self.capture.readouterr().err + ended.value.code
        check_line(name, line, words)
        assert files(self.folder) == before
        return line

    def accepts(self, name: str, work: Work) -> None:
        """Runs the stage to its end."""
        common.run(name, work)


def check_line(name: str, text: str, words: tuple[str, ...]) -> None:
    """One line that begins with the stage's name and holds the words."""
    assert text.startswith(f"{name}: ")
    assert text.isprintable(), text
    assert len(text) < 1500
    assert "Traceback" not in text
    for word in words:
        assert word in text, f"{word!r} not in {text!r}"

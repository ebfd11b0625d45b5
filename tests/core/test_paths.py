"""Every path that stages exchange stands once in the code, and dvc.yaml has the same."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.core import paths
from tests.structure.project import PROJECT, paths_of, read_pipeline

CONSTANTS = {name: value for name, value in vars(paths).items() if isinstance(value, Path)}
NUMBERS_OF = {"evaluate_rpn": "rpn", "evaluate_backbone": "backbone"}  # named for what they evaluate
NO_OUTPUTS = {"OWN_PICTURES", "SINGLE_PREDICTIONS", "SINGLE_EXPORT"}  # a person's own folder; and what no stage tracks
STAGES = read_pipeline()["stages"]
OUTS = {name: set(paths_of(stage["outs"])) for name, stage in STAGES.items()}
MODULES = [path for folder in ("src", "stages") for path in sorted((PROJECT / folder).rglob("*.py"))]


@pytest.mark.parametrize("name", CONSTANTS)
def test_every_path_is_one_stage_s_output(name: str) -> None:
    """An output, or a file in a folder that is one."""
    places = {place.as_posix() for place in (CONSTANTS[name], *CONSTANTS[name].parents)}
    writers = [stage for stage, outs in OUTS.items() if places & outs]
    assert len(writers) == (0 if name in NO_OUTPUTS else 1), writers


@pytest.mark.parametrize("stage", STAGES)
def test_every_output_is_a_path_or_the_stage_s_own_numbers_and_plots(stage: str) -> None:
    own = {paths.metrics(NUMBERS_OF.get(stage, stage)), paths.plots(stage)}
    assert OUTS[stage] <= {path.as_posix() for path in own | set(CONSTANTS.values())}


def test_a_person_s_pictures_are_read_and_never_written() -> None:
    assert paths.OWN_PICTURES.as_posix() in paths_of(STAGES["predict"]["deps"])
    untouched = (paths.OWN_PICTURES, paths.SINGLE_PREDICTIONS, paths.SINGLE_EXPORT)
    outs = [Path(out) for outs in OUTS.values() for out in outs]
    assert [out for out in outs if any(out.is_relative_to(folder) for folder in untouched)] == []


def test_paths_are_relative_and_differ() -> None:
    """Stages run in copies of the project, so a path may not lead out of the folder they run in."""
    assert not any(path.is_absolute() or ".." in path.parts for path in CONSTANTS.values())
    assert len(set(CONSTANTS.values())) == len(CONSTANTS) >= 18


def texts(tree: ast.AST) -> Iterator[ast.Constant]:
    """All strings but those that are a statement of their own, which are docstrings."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node


def spelled(source: str) -> list[str]:
    """The strings of a module that spell one of the paths; of a plain word, only as the argument of `Path`."""
    tree = ast.parse(source)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Path"]
    arguments = {id(argument) for call in calls for argument in call.args}
    files = [path.as_posix() for path in CONSTANTS.values()]
    return [
        text.value
        for text in texts(tree)
        if any(("/" in file and file in text.value) or (id(text) in arguments and file == text.value) for file in files)
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_no_other_module_spells_a_path(path: Path) -> None:
    found = spelled(path.read_text(encoding="utf-8"))
    if path == Path(paths.__file__):
        assert sorted(found) == sorted(value.as_posix() for value in CONSTANTS.values())
    else:
        assert found == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('x = root / "models/rpn.pt"', ["models/rpn.pt"]),
        ('x = f"{root}/data/prepared.h5"', ["/data/prepared.h5"]),
        ('x = Path("pictures")', ["pictures"]),
        ('x = {"pictures": 3}', []),
        ('"""Writes models/rpn.pt."""', []),
    ],
)
def test_a_path_is_found_where_it_is_spelled(source: str, found: list[str]) -> None:
    assert spelled(source) == found

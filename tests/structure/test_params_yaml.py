"""params.yaml is written as DVC writes it: `dvc exp run -S` then changes the line of its setting and no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides

from tests.structure.project import PROJECT, read_params
from tools.settings import put

TEXT = (PROJECT / "params.yaml").read_text(encoding="utf-8")


def settings(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def quoted(value: Any) -> str:
    """A value as a person writes it after `-S key=`."""
    return "''" if value == "" else str(value).replace("'", "").replace(" ", "")


SETTINGS = dict(settings(read_params()))


def after(path: Path, *overrides: str) -> list[str]:
    """The lines of params.yaml after `-S`."""
    path.write_text(TEXT, encoding="utf-8")
    apply_overrides(path, list(overrides))
    return path.read_text(encoding="utf-8").splitlines()


def test_a_round_trip_changes_nothing(tmp_path: Path) -> None:
    same = [f"{key}={quoted(value)}" for key, value in SETTINGS.items()]
    assert len(same) > 100
    assert after(tmp_path / "params.yaml", *same) == TEXT.splitlines()


@pytest.mark.parametrize("key", [key for key, value in SETTINGS.items() if isinstance(value, list)])
def test_one_number_of_a_list_is_one_line(key: str, tmp_path: Path) -> None:
    changed = [*SETTINGS[key][:-1], 0.75]
    lines = after(tmp_path / "params.yaml", f"{key}={quoted(changed)}")
    differ = [(old, new) for old, new in zip(TEXT.splitlines(), lines, strict=True) if old != new]
    assert [new.strip() for _, new in differ] == ["- 0.75"]


def test_settings_are_applied_in_the_same_hand() -> None:
    tree: dict[str, Any] = {"a": {"b": [1, 2]}}
    put(tree, "a.b", [3])
    assert tree == {"a": {"b": [3]}}

"""Reads `params.yaml` and checks it as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from src.core.errors import InputError, invalid
from src.core.params import Params
from src.core.schema import build
from src.core.validation import check_consistency, check_names

MAPPINGS: Final = ("data.coco.classes",)  # settings whose values may be trees


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Reads and checks `params.yaml` (YAML 1.2, as DVC writes it: `1e-06` is a number).

    Raises:
        InputError: the file is missing or not YAML; a key is unknown, missing or one that has a new name; a value has
            the wrong type, is out of range, or contradicts another.
    """
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run from the project's root") from None
    except Exception as error:  # noqa: BLE001 - a broken file may make the YAML reader raise anything
        raise invalid(path, "readable YAML", str(error)) from None
    return read_params(tree)


def read_params(tree: Any) -> Params:
    """Checks what YAML gave for `params.yaml`.

    Raises:
        InputError: a key is unknown, missing or one that has a new name; a value has the wrong type, is out of range,
            or contradicts another.
    """
    check_names(tree)
    params: Params = build(Params, tree)
    check_consistency(params)
    return params


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of a tree of settings."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and f"{prefix}{key}" not in MAPPINGS:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

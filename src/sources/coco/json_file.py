"""The outer form of an instances json: its three lists, and what else a file of that name may turn out to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

from src.core.errors import invalid

Tree: TypeAlias = dict[str, list[Any]]  # of images, annotations and categories
SECTIONS = ("images", "annotations", "categories")


def read_tree(path: Path) -> Tree:
    """Reads the json's three lists, in UTF-8 or whatever its byte order mark says.

    Raises:
        InputError: no JSON, or not an instances json; the line says what it looks like.
    """
    try:
        tree = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise invalid(path, "JSON", error) from None
    for key in SECTIONS:
        if not isinstance(tree, dict) or not isinstance(tree.get(key), list):
            raise invalid(path, f"a list '{key}' at the top level", _outline(tree, key))
    return {key: tree[key] for key in SECTIONS}


def _outline(tree: Any, key: str) -> str:
    """What stands where the list `key` should."""
    if isinstance(tree, list):
        results = bool(tree) and isinstance(tree[0], dict) and "score" in tree[0]
        return f"a list of {len(tree)} entries" + (", detections in COCO's format for results" if results else "")
    if not isinstance(tree, dict) or key not in tree:
        return "none"
    value = tree[key]
    return f"a mapping of {len(value)} entries" if isinstance(value, dict) else f"a {type(value).__name__}"

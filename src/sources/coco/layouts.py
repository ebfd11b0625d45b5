"""Where a set in COCO's format has its json and its pictures.

Admitted under `data.root`: `instances.json` with `images/`, or COCO's own, `annotations/instances_X.json` with `X/` or
`images/X/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from src.core.errors import invalid


@dataclass(frozen=True)
class Part:
    """An instances json and the image folder that belongs to it."""

    instances: Path
    images: Path


def find_parts(root: Path) -> list[Part]:
    """The files of a set.

    Raises:
        InputError: there is no such pair, or more than one.
    """
    pairs = [(root / "instances.json", root / "images")]
    for path in sorted((root / "annotations").glob("instances_*.json")):
        name = path.stem.removeprefix("instances_")
        pairs += [(path, root / name), (path, root / "images" / name)]
    found = [(path, folder) for path, folder in pairs if path.is_file() and folder.is_dir()]
    if len(found) != 1:
        expected = "instances.json with images/, or annotations/instances_X.json with X/, once"
        raise invalid(root, expected, ", ".join(path.name for path, _ in found) or "neither")
    return [Part(*found[0])]

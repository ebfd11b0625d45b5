"""Where a set in COCO's format has its json and its pictures, as the tools lay them out, and which split each part is.

| tool | files under `data.root` |
| --- | --- |
| this project | `instances.json`, `images/` |
| COCO, CVAT | `annotations/instances_X.json`, with `X/`, `images/X/` or pictures in `images/` itself |
| Roboflow | `X/_annotations.coco.json` beside its pictures; also without X |
| Label Studio | `result.json`, `images/` |
| FiftyOne | `labels.json`, `data/` |

Parts whose X are names of splits (`train2017`, `valid`, `test`) are the set's own split. `data.coco.annotations` and
`data.coco.images` name the files where no guess fits, or the wrong one.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from src.core.data_params import CocoParams
from src.core.errors import invalid
from src.sources.pictures import SUFFIXES
from src.structures.sample import SPLITS, TEST, TRAIN, VALIDATION

SPLIT_NAMES: Final = {
    TRAIN: re.compile(r"train(ing)?[-_]?(\d{4})?", re.IGNORECASE),
    VALIDATION: re.compile(r"val(id(ation)?)?[-_]?(\d{4})?", re.IGNORECASE),
    TEST: re.compile(r"test(ing)?[-_]?(\d{4})?", re.IGNORECASE),
}
PAIRS: Final = (("instances.json", "images"), ("result.json", "images"), ("labels.json", "data"))
ROBOFLOW: Final = "_annotations.coco.json"


@dataclass(frozen=True)
class Part:
    """An instances json and the image folder that belongs to it.

    Attributes:
        instances: the json.
        images: the folder.
        name: of the part where a layout has several, e.g. `train2017`; else empty.
        split: the set's own; None where the split is drawn.
    """

    instances: Path
    images: Path
    name: str = ""
    split: str | None = None


@dataclass(frozen=True)
class Layout:
    """One way in which the files under a folder can be read, and what it is called in a complaint."""

    name: str
    parts: tuple[Part, ...]


def find_layout(root: Path, coco: CocoParams) -> Layout:
    """The files of a set, with its own split where it has one: training and testing parts, at least.

    Of a set that has no test part its validation part is that, as COCO's own is.

    Args:
        root: `data.root`.
        coco: the paths that were named.

    Raises:
        InputError: nothing fits, or several layouts do; the line names them.
    """
    if coco.annotations or coco.images:
        return _named(root, coco)
    found = [*_candidates(root)]
    if len(found) != 1:
        expected = (
            "instances.json with images/, annotations/instances_X.json with X/, images/X/ or images/, "
            f"X/{ROBOFLOW}, result.json with images/, or labels.json with data/; "
            "data.coco.annotations and data.coco.images name others"
        )
        if found:
            expected = "one layout; data.coco.annotations and data.coco.images name the files"
        raise invalid(root, expected, ", ".join(layout.name for layout in found) or _outline(root))
    return found[0]


def _named(root: Path, coco: CocoParams) -> Layout:
    """The files that `data.coco` names; both lie below `data.root`, since DVC watches that."""
    if not coco.annotations or not coco.images:
        found = "data.coco.images alone" if coco.images else "data.coco.annotations alone"
        raise invalid("params.yaml", "both data.coco.annotations and data.coco.images, or neither", found)
    part = Part(root / coco.annotations, root / coco.images)
    for key, path, fits in (
        ("annotations", part.instances, part.instances.is_file()),
        ("images", part.images, part.images.is_dir()),
    ):
        inside = Path(os.path.abspath(path)).is_relative_to(Path(os.path.abspath(root)))  # noqa: PTH100 - links stay
        if not fits or not inside:
            kind = "file" if key == "annotations" else "folder"
            raise invalid("params.yaml", f"a {kind} below data.root for 'data.coco.{key}'", f"'{path}'")
    return Layout(f"{coco.annotations} with {coco.images}", (part,))


def _candidates(root: Path) -> Iterator[Layout]:
    """Each layout that fits."""
    for instances, images in PAIRS:
        if (root / instances).is_file() and (root / images).is_dir():
            yield Layout(f"{instances} with {images}/", (Part(root / instances, root / images),))
    yield from _as_splits([*_annotations(root)])
    if (root / ROBOFLOW).is_file():
        yield Layout(ROBOFLOW, (Part(root / ROBOFLOW, root),))
    files = sorted(root.glob(f"*/{ROBOFLOW}"))
    yield from _as_splits([Part(file, file.parent, file.parent.name) for file in files])


def _annotations(root: Path) -> Iterator[Part]:
    """COCO's `annotations/instances_X.json` that have pictures."""
    for file in sorted((root / "annotations").glob("instances_*.json")):
        name = file.stem.removeprefix("instances_")
        folders = [folder for folder in (root / name, root / "images" / name) if folder.is_dir()]
        if not folders and _has_pictures(root / "images"):
            folders = [root / "images"]
        yield from (Part(file, folder, name) for folder in folders)


def _as_splits(parts: list[Part]) -> Iterator[Layout]:
    """One layout of all parts where their names are those of splits, else one of each."""
    splits = [split_named(part.name) for part in parts]
    counts = Counter(splits)
    if len(parts) > 1 and counts[TRAIN] == 1 and None not in counts and max(counts.values()) == 1:
        own = [replace(part, split=split) for part, split in zip(parts, splits, strict=True)]
        if not counts[TEST]:
            own = [replace(part, split=TEST) if part.split == VALIDATION else part for part in own]
        own.sort(key=lambda part: SPLITS.index(part.split or TRAIN))
        yield Layout(" and ".join(_describe(part) for part in own), tuple(own))
        return
    yield from (Layout(_describe(part), (replace(part, name=""),)) for part in parts)


def split_named(name: str) -> str | None:
    """The split that a part's name means, e.g. `valid` or `train2017`; None for other names."""
    return next((split for split, pattern in SPLIT_NAMES.items() if pattern.fullmatch(name)), None)


def _describe(part: Part) -> str:
    if part.instances.parent == part.images:
        return f"{part.images.name}/{part.instances.name}"
    return f"{part.instances.name} with {part.images.name}/"


def _has_pictures(folder: Path) -> bool:
    """Whether pictures lie in the folder itself."""
    return folder.is_dir() and any(path.suffix.lower() in SUFFIXES for path in folder.iterdir())


def _outline(root: Path) -> str:
    """What there is, for a person who looks for the reason."""
    names = sorted(path.name + "/" * path.is_dir() for path in root.iterdir() if not path.name.startswith("."))
    return "neither but " + ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "an empty folder"

"""COCO's instances json, checked entry by entry and reduced to the three classes (cocodataset.org/#format-data).

A category belongs to a class by its supercategory (`vehicle`, `person`, `animal`), or by its own name where no
supercategory says so. Objects of other categories are left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from src.core.errors import brief, invalid
from src.sources.checks import check_count
from src.structures.classes import LABELS

LONGEST_SIDE = 30_000  # pixels
LARGEST_NUMBER = 1e9  # of a coordinate; JSON also has whole numbers that no float holds


@dataclass(frozen=True)
class Annotation:
    """One object: `box` is x, y, width, height in the picture's own pixels; `segmentation` is still encoded."""

    number: int
    label: int
    crowd: bool
    box: tuple[float, float, float, float]
    segmentation: Any


@dataclass(frozen=True)
class Picture:
    """One image entry with its objects of the three classes."""

    file_name: str
    height: int
    width: int
    objects: list[Annotation] = field(default_factory=list)

    @property
    def has_objects(self) -> bool:
        """Whether an object is annotated one by one and has an extent."""
        return any(not item.crowd for item in self.objects)


def read_instances(path: Path) -> list[Picture]:
    """Reads and checks the whole file.

    Args:
        path: an instances json.

    Returns:
        All pictures, in the order of their ids, with their objects in the order of theirs.

    Raises:
        InputError: naming the first entry that is wrong.
    """
    tree = _read_tree(path)
    labels = _entries(path, "categories", tree["categories"], _category)
    pictures = _entries(path, "images", tree["images"], _picture)
    if not any(labels.values()):
        expected = "a category with supercategory or name " + ", ".join(LABELS)
        raise invalid(path, expected, "none", "categories")
    names = Counter(picture.file_name for picture in pictures.values())
    if len(names) < len(pictures):
        twice, _ = names.most_common(1)[0]
        raise invalid(path, "each file_name once", f"'{twice}' again", "images")
    annotations = _entries(path, "annotations", tree["annotations"], lambda entry: _annotation(entry, labels, pictures))
    for _, (image, annotation) in sorted(annotations.items()):
        if annotation is not None:
            pictures[image].objects.append(annotation)
    for picture in pictures.values():
        check_count(len(picture.objects), path, picture.file_name)
    return [picture for _, picture in sorted(pictures.items())]


def _read_tree(path: Path) -> dict[str, Any]:
    """The json's top level with its three lists."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise invalid(path, "JSON", error) from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(tree, dict) or not isinstance(tree.get(key), list):
            raise invalid(path, f"a list '{key}' at the top level", "none")
    return tree


def _entries(path: Path, section: str, entries: list[Any], build: Callable[[dict[str, Any]], Any]) -> dict[int, Any]:
    """Builds each entry, by id."""
    built: dict[int, Any] = {}
    for position, entry in enumerate(entries):
        number, value = _checked(entry, build, path, f"{section}[{position}]")
        if number in built:
            raise invalid(path, "each id once", f"{number} again", f"{section}[{position}]")
        built[number] = value
    return built


def _checked(entry: Any, build: Callable[[dict[str, Any]], Any], path: Path, index: str) -> tuple[int, Any]:
    """The id of an entry and what `build` makes of it; a ValueError says `expected, found ...`."""
    try:
        return _whole(entry, "id"), build(entry)
    except ValueError as error:
        expected, _, found = str(error).partition(", found ")
        raise invalid(path, expected, found, index) from None


def _category(entry: dict[str, Any]) -> int | None:
    """The class a category belongs to, None for others."""
    name = _text(entry, "name")
    return LABELS.get(str(entry.get("supercategory", "")).lower()) or LABELS.get(name.lower())


def _picture(entry: dict[str, Any]) -> Picture:
    name, height, width = _text(entry, "file_name"), _whole(entry, "height"), _whole(entry, "width")
    path = PureWindowsPath(name)  # knows both kinds of separators, and drives
    if path.drive or path.root or ".." in path.parts or "\0" in name or not _is_text(name):
        raise ValueError(f"a file_name inside the image folder, found {brief(name)}")
    if not (0 < height <= LONGEST_SIDE and 0 < width <= LONGEST_SIDE):
        raise ValueError(f"a height and width from 1 to {LONGEST_SIDE}, found {height} x {width}")
    return Picture(name, height, width)


def _annotation(
    entry: dict[str, Any], labels: dict[int, int | None], pictures: dict[int, Picture]
) -> tuple[int, Annotation | None]:
    """The picture's id and the object; None for other categories and boxes without extent."""
    image, category = _whole(entry, "image_id"), _whole(entry, "category_id")
    if image not in pictures:
        raise ValueError(f"the id of an image, found image_id {image}")
    if category not in labels:
        raise ValueError(f"the id of a category, found category_id {category}")
    label = labels[category]
    if label is None:
        return image, None
    box = _box(entry.get("bbox"))
    if entry.get("iscrowd", 0) not in (0, 1):
        raise ValueError(f"iscrowd 0 or 1, found {brief(entry['iscrowd'])}")
    if type(entry.get("segmentation")) not in (list, dict):
        raise ValueError(f"a segmentation, found {brief(entry.get('segmentation'))}")
    crowd = bool(entry.get("iscrowd", 0))
    item = Annotation(_whole(entry, "id"), label, crowd, box, entry["segmentation"])
    return image, item if min(box[2:]) > 0 else None


def _box(value: Any) -> tuple[float, float, float, float]:
    numbers = isinstance(value, list) and len(value) == 4 and all(type(number) in (int, float) for number in value)
    if not numbers or not all(abs(number) <= LARGEST_NUMBER for number in value) or min(value[2:]) < 0:
        raise ValueError(f"a bbox of four numbers x y width height, found {brief(value)}")
    x, y, width, height = map(float, value)
    return x, y, width, height


def _whole(entry: Any, key: str) -> int:
    if not isinstance(entry, dict) or type(entry.get(key)) is not int:
        found = entry.get(key) if isinstance(entry, dict) else entry
        raise ValueError(f"a whole number '{key}', found {brief(found)}")
    return entry[key]


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"a text '{key}', found {brief(value)}")
    return value


def _is_text(text: str) -> bool:
    """Whether it has a form in bytes: JSON can spell halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

"""One entry of an instances json, checked: a category, an image, an object (cocodataset.org/#format-data).

Which class a category belongs to is `categories`'s to say. Objects of categories in no class are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from src.core.errors import brief
from src.sources.coco.categories import Category
from src.sources.coco.mending import Entry, is_box, is_maskless
from src.sources.left_out import MALFORMED, NO_MASK, UNKNOWN_ID, EntryError

LONGEST_SIDE = 30_000  # pixels


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
    """One image entry with its objects of the set's classes.

    Attributes:
        entry: its place in the json.
        file_name: as the json has it.
        height: in pixels; 0 where the json does not say.
        width: likewise.
        objects: in the order of their ids.
        lost: the places of objects that are left out; the picture is then no picture without objects.
    """

    entry: str
    file_name: str
    height: int
    width: int
    objects: list[Annotation] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def has_objects(self) -> bool:
        """Whether an object is annotated one by one and has an extent."""
        return any(not item.crowd for item in self.objects)


def build_category(entry: Entry) -> Category:
    """A category entry.

    Raises:
        EntryError: its id is no whole number, or it has no name.
    """
    number, name, above = whole(entry, "id"), _text(entry, "name").strip(), entry.get("supercategory")
    if not name:
        raise EntryError(MALFORMED, "a text 'name'", brief(entry["name"]))
    return Category(number, name, above if isinstance(above, str) else "")


def build_picture(entry: Entry, index: str, *, sizeless: bool) -> Picture:
    """An image entry, still without its objects.

    Args:
        entry: as the json has it.
        index: its place there.
        sizeless: whether height and width may be missing, to be read from the picture.

    Raises:
        EntryError: the name is no text, or the size not from 1 to `LONGEST_SIDE`.
    """
    name = _text(entry, "file_name")
    if "\0" in name or not _is_text(name):
        raise EntryError(MALFORMED, "a file_name inside the image folder", brief(name))
    if sizeless and all(entry.get(key) in (None, 0) for key in ("height", "width")):
        return Picture(index, name, 0, 0)
    height, width = whole(entry, "height"), whole(entry, "width")
    if not (0 < height <= LONGEST_SIDE and 0 < width <= LONGEST_SIDE):
        raise EntryError(MALFORMED, f"a height and width from 1 to {LONGEST_SIDE}", f"{height} x {width}")
    return Picture(index, name, height, width)


def build_annotation(
    entry: Entry, labels: Mapping[int, int | None], pictures: Mapping[int, Picture | None]
) -> tuple[int, Annotation | None]:
    """The picture's id and the object.

    Args:
        entry: as the json has it.
        labels: the class of each category, None for those outside the classes.
        pictures: by their ids, None for those that are left out.

    Returns:
        None in the place of an object of another category, or of a picture that is left out.

    Raises:
        EntryError: a value is of another form, or an id is of nothing.
    """
    image, category = whole(entry, "image_id"), whole(entry, "category_id")
    if image not in pictures:
        raise EntryError(UNKNOWN_ID, "the id of an image", f"image_id {image}")
    if category not in labels:
        raise EntryError(UNKNOWN_ID, "the id of a category", f"category_id {category}")
    label = labels[category]
    if label is None or pictures[image] is None:
        return image, None
    box = _box(entry.get("bbox"))
    if entry.get("iscrowd", 0) not in (0, 1):
        raise EntryError(MALFORMED, "iscrowd 0 or 1", brief(entry["iscrowd"]))
    if is_maskless(entry):
        found = f"{brief(entry.get('segmentation'))}; data.boxes_as_masks=true takes the box's area"
        raise EntryError(NO_MASK, "a segmentation", found)
    if type(entry["segmentation"]) not in (list, dict):
        raise EntryError(MALFORMED, "a segmentation", brief(entry["segmentation"]))
    crowd = bool(entry.get("iscrowd", 0))
    return image, Annotation(whole(entry, "id"), label, crowd, box, entry["segmentation"])


def _box(value: Any) -> tuple[float, float, float, float]:
    if not is_box(value) or min(value[2:]) < 0:
        raise EntryError(MALFORMED, "a bbox of four numbers x y width height", brief(value))
    x, y, width, height = map(float, value)
    return x, y, width, height


def whole(entry: Any, key: str) -> int:
    """A whole number of an entry.

    Raises:
        EntryError: it has none of that name.
    """
    if not isinstance(entry, dict) or type(entry.get(key)) is not int:
        found = entry.get(key) if isinstance(entry, dict) else entry
        raise EntryError(MALFORMED, f"a whole number '{key}'", brief(found))
    return entry[key]


def _text(entry: Entry, key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise EntryError(MALFORMED, f"a text '{key}'", brief(value))
    return value


def _is_text(text: str) -> bool:
    """Whether it has a form in bytes: JSON can spell halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

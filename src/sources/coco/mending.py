"""The liberties that labelling tools take with COCO's format, brought back to what the format says.

Each function looks at one raw entry and returns the values that are to replace others in it: none where the entry is
as it should be, or where its meaning is not plain. Nothing is judged here; `annotations` checks what comes out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from src.sources.coco.json_file import Tree

Entry: TypeAlias = dict[str, Any]
Ids: TypeAlias = Mapping[str, int]  # numbers for ids that are words
Mends: TypeAlias = Mapping[str, Callable[[Entry], Entry]]  # by what they mend
LONGEST_NUMBER = 18  # digits; more are no id and no size
FARTHEST = 1e9  # a coordinate


def mend(tree: Tree) -> tuple[Tree, Counter[str]]:
    """Mends every entry whose meaning is plain.

    Args:
        tree: the three lists, left as they are.

    Returns:
        The lists with mended entries in the place of others, and how many entries each liberty was taken in.
    """
    counts: Counter[str] = Counter()
    categories, images = _words(tree["categories"]), _words(tree["images"])
    mended = {
        "categories": [_apply(entry, {"id as text": _ids(id=categories)}, counts) for entry in tree["categories"]],
        "images": [_apply(entry, {"id as text": _ids(id=images), **IMAGE}, counts) for entry in tree["images"]],
        "annotations": [],
    }
    references = {"id as text": _ids(id={}, image_id=images, category_id=categories)}
    for position, entry in enumerate(tree["annotations"], 1):
        numbered: Mends = {**references, "no id": partial(_number, position)}
        mended["annotations"].append(_apply(entry, {**numbered, **ANNOTATION}, counts))
    return mended, counts


def with_box_masks(tree: Tree) -> tuple[Tree, Counter[str]]:
    """Gives each object without a mask its box's area for one (`data.boxes_as_masks`).

    Args:
        tree: the three lists, left as they are.

    Returns:
        The same with more masks, and the number of these.
    """
    counts: Counter[str] = Counter()
    annotations = [_apply(entry, {"box as mask": _mask_from_box}, counts) for entry in tree["annotations"]]
    return tree | {"annotations": annotations}, counts


def is_maskless(entry: Entry) -> bool:
    """Whether an object has no mask at all: tools write null, an empty list or a list of one."""
    return entry.get("segmentation") in (None, [], [[]], {})


def is_box(value: Any) -> TypeGuard[list[float]]:
    """Whether it is four numbers near a picture."""
    return isinstance(value, list) and len(value) == 4 and all(_is_near(number) for number in value)


def extent(polygons: Any) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of a list of polygons; None if that is not what it is."""
    if not isinstance(polygons, list) or not polygons:
        return None
    flat = [polygon for polygon in polygons if _is_polygon(polygon)]
    if len(flat) < len(polygons):
        return None
    corners = np.concatenate([np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in flat])
    left, top, right, bottom = map(float, [*corners.min(0), *corners.max(0)])
    return left, top, right, bottom


def _apply(entry: Any, mends: Mends, counts: Counter[str]) -> Any:
    """The entry after each of the mends; `counts` gets those that changed something."""
    if not isinstance(entry, dict):
        return entry
    for name, change in mends.items():
        if values := change(entry):
            counts[name] += 1
            entry = entry | values
    return entry


def _words(entries: Iterable[Any]) -> Ids:
    """Numbers for those ids of a section that are words, above all of its numbers."""
    ids = [entry.get("id") for entry in entries if isinstance(entry, dict)]
    numbers = [number for value in ids if (number := _whole(value)) is not None]
    words = dict.fromkeys(value for value in ids if isinstance(value, str) and _whole(value) is None)
    return {word: place for place, word in enumerate(words, max(numbers, default=0) + 1)}


def _ids(**known: Ids) -> Callable[[Entry], Entry]:
    """Ids as texts (`"12"`, or words), or as `12.0`."""

    def change(entry: Entry) -> Entry:
        values: Entry = {}
        for key, words in known.items():
            value = entry.get(key)
            if isinstance(value, str | float):
                number = words[value] if isinstance(value, str) and value in words else _whole(value)
                values |= {} if number is None else {key: number}
        return values

    return change


def _number(position: int, entry: Entry) -> Entry:
    """The id of an object that has none."""
    return {} if "id" in entry else {"id": position}


def _size(entry: Entry) -> Entry:
    """Height and width as `320.0` or `"320"`."""
    values = {key: entry.get(key) for key in ("height", "width")}
    return {
        key: number
        for key, value in values.items()
        if type(value) in (str, float) and (number := _whole(value)) is not None
    }


def _iscrowd(entry: Entry) -> Entry:
    """A flag that is null, true, false, a text or a float."""
    value = entry.get("iscrowd", 0)
    if type(value) is int:
        return {}
    number = 0 if value is None else int(value) if isinstance(value, bool) else _whole(value)
    return {} if number is None else {"iscrowd": number}


def _nesting(entry: Entry) -> Entry:
    """A polygon that is not in a list of polygons, is a list of points, or run lengths that are in a list."""
    value = entry.get("segmentation")
    if not isinstance(value, list) or not value:
        return {}
    if _is_polygon(value):
        return {"segmentation": [value]}
    if len(value) == 1 and isinstance(value[0], dict):
        return {"segmentation": value[0]}
    if _are_points(value):
        return {"segmentation": [[number for point in value for number in point]]}
    if all(isinstance(polygon, list) and _are_points(polygon) for polygon in value):
        return {"segmentation": [[number for point in polygon for number in point] for polygon in value]}
    return {}


def _box_numbers(entry: Entry) -> Entry:
    """A box of texts."""
    value = entry.get("bbox")
    if not isinstance(value, list) or len(value) != 4 or not any(isinstance(number, str) for number in value):
        return {}
    numbers = [_float(number) for number in value]
    return {} if None in numbers else {"bbox": numbers}


def _box_from_polygons(entry: Entry) -> Entry:
    """A missing box, or one of no width or height, around polygons that have both."""
    value = entry.get("bbox")
    if value not in (None, []) and not (is_box(value) and 0 in value[2:] and min(value[2:]) >= 0):
        return {}
    if (around := extent(entry.get("segmentation"))) is None:
        return {}
    left, top, right, bottom = around
    return {"bbox": [left, top, right - left, bottom - top]} if right > left and bottom > top else {}


def _mask_from_box(entry: Entry) -> Entry:
    value = entry.get("bbox")
    if not is_maskless(entry) or not is_box(value):
        return {}
    x, y, width, height = value
    return {"segmentation": [[x, y, x + width, y, x + width, y + height, x, y + height]]}


IMAGE: Mends = {"size as text or float": _size}
ANNOTATION: Mends = {
    "iscrowd not 0 or 1": _iscrowd,
    "mask nested otherwise": _nesting,
    "box of texts": _box_numbers,
    "box from its polygons": _box_from_polygons,
}


def _is_near(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= FARTHEST


def _is_polygon(value: Any) -> bool:
    """Whether it is a flat list of x y pairs of three corners or more."""
    return isinstance(value, list) and len(value) >= 6 and len(value) % 2 == 0 and all(map(_is_near, value))


def _are_points(value: list[Any]) -> bool:
    """Whether it is a list of [x, y] of three corners or more."""
    return len(value) >= 3 and all(isinstance(p, list) and len(p) == 2 and all(map(_is_near, p)) for p in value)


def _whole(value: Any) -> int | None:
    """The whole number that a number or a text of digits stands for."""
    if isinstance(value, str):
        digits = value.strip().removesuffix(".0")
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= LONGEST_NUMBER else None
    if type(value) is float:
        return int(value) if abs(value) <= FARTHEST and value.is_integer() else None
    return value if type(value) is int else None


def _float(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return number if _is_near(number) else None

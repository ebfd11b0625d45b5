"""What may be wrong with a set as a whole, so that no entry alone shows it; each is refused with what it looks like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from src.core.errors import invalid
from src.sources.coco.json_file import Tree
from src.sources.coco.mending import Entry, extent, is_box, is_maskless
from src.sources.left_out import in_words

LOOKED_AT: Final = 1000  # objects; where a writer had a habit, so many show it
ROUNDING: Final = 2.0  # pixels between a box and its polygons


def check_whole(
    path: Path, tree: Tree, labels: Mapping[int, int | None], names: Mapping[int, str], wanted: str
) -> None:
    """Refuses a set that was meant otherwise than it is read.

    Args:
        path: the json named in complaints.
        tree: its three lists, mended where that was asked for.
        labels: the class of each category, None for those outside the classes.
        names: the name of each category.
        wanted: the classes, in words.

    Raises:
        InputError: no object belongs to a class, none has a mask, all are crowds, coordinates are shares of the
            picture, or boxes are corners.
    """
    objects = [entry for entry in tree["annotations"] if _label(entry, labels) is not None]
    if not objects:
        others = Counter(names[number] for entry in tree["annotations"] if (number := _category(entry)) in names)
        raise invalid(path, f"objects of {wanted}", in_words(others) or "none", "annotations")
    if all(entry.get("iscrowd") == 1 for entry in objects):
        found = f"iscrowd 1 at all {len(objects)}: regions of many objects, which are ignored"
        raise invalid(path, "objects with iscrowd 0", found, "annotations")
    if all(map(is_maskless, objects)) and any(is_box(entry.get("bbox")) for entry in objects):
        found = f"boxes alone at all {len(objects)}; data.boxes_as_masks=true trains with their areas as masks"
        raise invalid(path, "masks ('segmentation')", found, "annotations")
    some = objects[:LOOKED_AT]
    if all(map(_is_share, some)):
        found = "all from 0 to 1: shares of the width and height? Multiply by them"
        raise invalid(path, "coordinates in pixels", found, "annotations")
    corners = sum(map(_is_corners, some))
    if 2 * corners > len(some):
        found = f"x1 y1 x2 y2 in {corners} of {len(some)}, by their polygons"
        raise invalid(path, "each bbox as x y width height", found, "annotations")


def _category(entry: Any) -> Any:
    """The number of an object's category; None if it is no number."""
    number = entry.get("category_id") if isinstance(entry, dict) else None
    return number if type(number) is int else None


def _label(entry: Any, labels: Mapping[int, int | None]) -> int | None:
    return labels.get(_category(entry))


def _is_share(entry: Entry) -> bool:
    """Whether box and polygons lie between 0 and 1."""
    box, around = entry.get("bbox"), extent(entry.get("segmentation"))
    if not is_box(box) or not isinstance(entry.get("segmentation"), list):
        return False
    x, y, width, height = box
    edges = [x, y, x + width, y + height, *(around or ())]
    return min(edges) >= 0 and max(edges) <= 1


def _is_corners(entry: Entry) -> bool:
    """Whether a box is x1 y1 x2 y2, and only that, around its polygons."""
    box, around = entry.get("bbox"), extent(entry.get("segmentation"))
    if not is_box(box) or around is None:
        return False
    x, y, width, height = box
    as_corners = max(abs(one - other) for one, other in zip(box, around, strict=True))
    as_sizes = max(abs(one - other) for one, other in zip((x, y, x + width, y + height), around, strict=True))
    return as_corners <= ROUNDING < as_sizes

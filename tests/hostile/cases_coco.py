"""Broken COCO sets. Each case spoils one thing in a good set of six pictures.

Read strictly, each is refused with the words of its case. Otherwise those in `LEFT_OUT` are read without the entry.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.sources import left_out
from tests.factories import write_tree
from tests.hostile.case import Case, case
from tests.hostile.cases_pictures import png_header

Tree = dict[str, Any]
FIRST = "000000000001.png"
NOT_AN_OBJECT = 62  # the category that the three classes do not have


def tree(change: Callable[[Tree], Any]) -> Callable[[Path], None]:
    """Writes a changed json."""

    def spoil(root: Path) -> None:
        content = json.loads((root / "instances.json").read_text())
        change(content)
        write_tree(root, content)

    return spoil


def first(content: Tree) -> dict[str, Any]:
    """The first object of a class that counts."""
    return next(entry for entry in content["annotations"] if entry["category_id"] != NOT_AN_OBJECT)


def put(section: str, **values: Any) -> Callable[[Path], None]:
    """Changes the first entry of a section."""
    return tree(lambda content: (first(content) if section == "annotations" else content[section][0]).update(values))


def text(content: str) -> Callable[[Path], None]:
    return lambda root: (root / "instances.json").write_text(content)


def many(content: Tree) -> None:
    content["annotations"] += [first(content) | {"id": 1000 + number} for number in range(10_000)]


def twice_in_a_long_list(content: Tree) -> None:
    size = {"height": 3, "width": 3}
    content["images"] += [{"id": 10 + n, "file_name": f"{n}.png", **size} for n in range(5000)]
    content["images"] += [{"id": 99_999, "file_name": "4999.png", **size}]


def picture(content: bytes) -> Callable[[Path], None]:
    return lambda root: (root / "images" / FIRST).write_bytes(content)


def linked(root: Path) -> None:
    """A picture that is a link to one outside, and not beside the set."""
    outside = root.parent.parent / "outside.png"
    (root / "images" / FIRST).rename(outside)
    (root / "images" / FIRST).symlink_to(outside)


def bomb(root: Path) -> None:
    put("images", height=15_000, width=15_000)(root)
    picture(png_header(15_000, 15_000))(root)


def deep(root: Path) -> None:
    put("annotations", bbox=json.loads("[" * 400 + "]" * 400))(root)


OUTSIDE = "a file_name inside the image folder"
CASES: dict[str, Case] = {
    "no json": case(lambda root: (root / "instances.json").unlink(), "instances.json with images/", "neither"),
    "no images": case(lambda root: (root / "images").rename(root / "photos"), "instances.json with images/", "neither"),
    "empty": case(text(""), "instances.json: expected JSON"),
    "half a json": case(lambda root: os.truncate(root / "instances.json", 900), "instances.json: expected JSON"),
    "no tree": case(text("[]"), "a list 'images' at the top level"),
    "brackets": case(text("[" * 100_000), "instances.json: expected JSON"),
    "no text": case(
        lambda root: (root / "instances.json").write_bytes(b"\xff\xfe\0\1"), "instances.json: expected JSON"
    ),
    "no list": case(tree(lambda content: content.update(categories={})), "a list 'categories'"),
    "missing picture": case(put("images", file_name="nowhere.png"), "nowhere.png", "no such file"),
    "folder for a picture": case(put("images", file_name="."), "no such file"),
    "name without end": case(put("images", file_name="a" * 5000 + ".png"), "no such file"),
    "parent folder": case(put("images", file_name="../instances.json"), "[images[0]]", OUTSIDE),
    "absolute path": case(put("images", file_name="/etc/passwd"), "[images[0]]", OUTSIDE),
    "windows path": case(put("images", file_name="a\\..\\..\\x.png"), "[images[0]]", OUTSIDE),
    "half a character": case(put("images", file_name="\ud800.png"), "[images[0]]", OUTSIDE, "ud800"),
    "link to the outside": case(linked, FIRST, "a link out of its folder", "outside.png"),
    "unknown category": case(put("annotations", category_id=99), "[annotations[0]]", "category_id 99"),
    "unknown image": case(put("annotations", image_id=99), "[annotations[0]]", "image_id 99"),
    "no class": case(
        tree(lambda c: c.update(categories=c["categories"][3:], annotations=[])), "a category of the classes"
    ),
    "no objects": case(tree(lambda c: c.update(annotations=[])), "objects of the classes", "none"),
    "duplicate annotation": case(put("annotations", id=2), "[annotations[1]]", "each id once", "2 again"),
    "duplicate image": case(put("images", id=2), "images[1]", "each id once", "2 again"),
    "duplicate category": case(put("categories", id=2), "[categories[1]]", "2 again"),
    "duplicate file": case(put("images", file_name="000000000002.png"), "each file_name once"),
    "duplicate file of many": case(tree(twice_in_a_long_list), "each file_name once", "4999.png"),
    "10,000 objects": case(tree(many), FIRST, "at most 1000 objects in a picture", "found 10"),
    "iscrowd is a text": case(put("annotations", iscrowd="yes"), "[annotations[0]]", "iscrowd 0 or 1", "'yes'"),
    "crowd of another size": case(
        tree(lambda c: c["annotations"][-1].update(segmentation={"size": [9, 9], "counts": [81]})), "size [9, 9]"
    ),
    "runs too short": case(
        put("annotations", segmentation={"size": [320, 240], "counts": [5]}), "annotation 1", "do not add up"
    ),
    "runs cut off": case(
        put("annotations", segmentation={"size": [320, 240], "counts": "o"}),
        "annotation 1",
        "in the middle of a number",
    ),
    "runs among polygons": case(
        put("annotations", segmentation=[[9, 9, 99, 9, 99, 99], {"size": [320, 240], "counts": [76800]}]),
        *("annotation 1", "a polygon that is not a list"),
    ),
    "odd polygon": case(put("annotations", segmentation=[[1, 2, 3]]), "annotation 1", "a polygon that is not a list"),
    "polygon outside": case(
        put("annotations", segmentation=[[5e3, 5e3, 6e3, 5e3, 6e3, 6e3]]), "far outside the picture"
    ),
    "polygon of NaN": case(put("annotations", segmentation=[[float("nan")] * 6]), "far outside the picture"),
    "polygon beyond floats": case(put("annotations", segmentation=[[10**400] * 6]), "a polygon that is not a list"),
    "no segmentation": case(put("annotations", segmentation=None), "[annotations[0]]", "a segmentation, found None"),
    "short box": case(put("annotations", bbox=[1, 2, 3]), "[annotations[0]]", "four numbers"),
    "box of NaN": case(put("annotations", bbox=[1, 2, float("nan"), 3]), "[annotations[0]]", "four numbers"),
    "box beyond floats": case(put("annotations", bbox=[10**400, 1, 1, 1]), "[annotations[0]]", "four numbers"),
    "negative box": case(put("annotations", bbox=[50, 50, -20, 10]), "[annotations[0]]", "four numbers"),
    "box outside": case(put("annotations", bbox=[1, 1, 900, 10]), "annotation 1", "inside the picture"),
    "box elsewhere": case(put("annotations", bbox=[0, 0, 1.5, 1.5]), "annotation 1", "a mask inside its box"),
    "box of boxes": case(deep, "[annotations[0]]", "four numbers", "[[[...]]]"),
    "entry of a million": case(
        tree(lambda c: c["annotations"].insert(0, list(range(10**6)))), "[annotations[0]]", "[0, 1, 2, 3, 4, 5, ...]"
    ),
    "huge picture": case(put("images", height=10**9), "[images[0]]", "from 1 to 30000", "1000000000"),
    "picture of another size": case(put("images", height=241), FIRST, "pixels, as the json says"),
    "bomb": case(bomb, FIRST, "at most 150,000,000 pixels"),
    "picture is text": case(picture(b"not an image"), FIRST, "a picture that can be read"),
    "picture is cut": case(
        lambda root: os.truncate(root / "images" / FIRST, 5000), FIRST, "a picture that can be read"
    ),
}

# The same, not read strictly: the reason for which an entry is left out. What is not here stays refused.
LEFT_OUT: dict[str, str] = {
    name: reason
    for reason, names in {
        left_out.NO_FILE: (
            *("missing picture", "folder for a picture", "name without end"),
            *("parent folder", "absolute path", "windows path"),
        ),
        left_out.UNREADABLE: ("bomb", "picture is text", "picture is cut"),
        left_out.OTHER_SIZE: ("picture of another size",),
        left_out.TOO_MANY: ("10,000 objects",),
        left_out.REPEATED: ("duplicate file of many",),
        left_out.UNKNOWN_ID: ("unknown category", "unknown image"),
        left_out.MALFORMED: (
            *("half a character", "huge picture", "iscrowd is a text", "entry of a million", "box of boxes"),
            *("short box", "box of NaN", "box beyond floats", "negative box"),
        ),
        left_out.NO_MASK: ("no segmentation",),
        left_out.BAD_MASK: (
            *("crowd of another size", "runs too short", "runs cut off", "runs among polygons"),
            *("odd polygon", "polygon outside", "polygon of NaN", "polygon beyond floats"),
        ),
        left_out.MASK_ELSEWHERE: ("box elsewhere", "box outside"),
    }.items()
    for name in names
}
MENDED = {"duplicate annotation": "repeated id"}  # and what is read in another form than it has
STAYS_REFUSED = CASES.keys() - LEFT_OUT.keys() - MENDED.keys()

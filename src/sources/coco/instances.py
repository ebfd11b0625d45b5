"""COCO's instances json as a whole: mended, checked entry by entry, and brought together by pictures.

An entry that does not hold is left out with its reason; where `data.strict` says so, the first refuses the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from src.core.data_params import DataParams
from src.core.errors import invalid
from src.sources.coco.annotations import (
    Annotation,
    Picture,
    build_annotation,
    build_category,
    build_picture,
    whole,
)
from src.sources.coco.categories import Category, ClassRule
from src.sources.coco.json_file import Tree, read_tree
from src.sources.coco.mending import mend, with_box_masks
from src.sources.coco.whole import check_whole
from src.sources.left_out import IMAGES, NO_AREA, OBJECTS, REPEATED, TOO_MANY, EntryError, Findings, LeftOut
from src.structures.classes import Classes


@dataclass(frozen=True)
class Instances:
    """An instances json as it was read.

    Attributes:
        pictures: in the order of their ids.
        findings: what is not among them.
        classes: those of the set, as far as the parts read so far tell.
        categories: names of all categories.
    """

    pictures: list[Picture]
    findings: Findings
    classes: Classes
    categories: frozenset[str]


def read_instances(path: Path, params: DataParams, earlier: Sequence[str] = ()) -> Instances:
    """Reads and checks the whole file.

    Args:
        path: the json.
        params: how strictly it is read, and which classes it has.
        earlier: names of the classes that the parts before it gave.

    Raises:
        InputError: no instances json, or wrong as a whole; where `data.strict` says so, naming the first entry that
            is wrong.
    """
    tree, mended = read_tree(path), Counter[str]()
    if not params.strict:
        tree, mended = mend(tree)
    if params.boxes_as_masks:
        tree, masks = with_box_masks(tree)
        mended += masks
    reader = _Reader(path, strict=params.strict)
    rule, categories = ClassRule(params.coco.classes), reader.categories(tree)
    classes = Classes(rule.names(categories, earlier, path))
    labels, names = rule.labels(categories, classes), {one.number: one.name for one in categories}
    if not any(labels.values()):
        rule.check_members(names.values(), path)
        raise invalid(
            path, f"a category of {rule.expected(classes)}", ", ".join(names.values()) or "none", "categories"
        )
    pictures = reader.pictures(tree)
    check_whole(path, tree, labels, names, rule.expected(classes))
    mended += reader.objects(tree, labels, pictures)
    crowded = reader.too_many(pictures, params.objects_per_image)
    findings = Findings(
        images=len(tree["images"]),
        objects=len(tree["annotations"]),
        left_out=tuple(reader.left_out),
        mended=mended,
        passed_over=_others(tree, labels, names, reader.left_out),
    )
    kept = [picture for number, picture in sorted(pictures.items()) if number not in crowded]
    return Instances(kept, findings, classes, frozenset(names.values()))


class _Reader:
    """Goes through one file's sections, and notes what it leaves out or raises at the first such entry."""

    def __init__(self, path: Path, *, strict: bool) -> None:
        self.path, self.strict = path, strict
        self.left_out: list[LeftOut] = []

    def categories(self, tree: Tree) -> list[Category]:
        """The categories, each id once.

        Raises:
            InputError: one is wrong or twice there: no entry can be read without them.
        """
        found: dict[int, Category] = {}
        for index, entry in _indexed("categories", tree):
            try:
                category = build_category(entry)
            except EntryError as error:
                raise invalid(self.path, error.expected, error.found, index) from None
            number = category.number
            if number in found and (self.strict or found[number].name != category.name):
                raise invalid(self.path, "each id once", f"{number} again", index)
            found[number] = category
        return list(found.values())

    def pictures(self, tree: Tree) -> dict[int, Picture]:
        """The pictures by their ids, each file once."""
        groups: dict[int, list[tuple[str, Picture]]] = {}
        for index, number, picture in self._build("images", tree, partial(build_picture, sizeless=not self.strict)):
            groups.setdefault(number, []).append((index, picture))
        pictures: dict[int, Picture] = {}
        files: set[str] = set()
        for number, group in groups.items():
            if len({picture.file_name for _, picture in group}) > 1:
                # Nothing tells whose the objects are, so none stays; the second is named first, as the one at fault.
                for index, _ in [*group[1:], group[0]]:
                    self._leave_out(IMAGES, index, EntryError(REPEATED, "each id once", f"{number} again"))
                continue
            for index, _ in group[1:]:
                self._leave_out(IMAGES, index, EntryError(REPEATED, "each id once", f"{number} again"))
            index, picture = group[0]
            if picture.file_name in files:
                error = EntryError(REPEATED, "each file_name once", f"'{picture.file_name}' again")
                self._leave_out(IMAGES, index, error)
                continue
            files.add(picture.file_name)
            pictures[number] = picture
        return pictures

    def objects(self, tree: Tree, labels: dict[int, int | None], pictures: dict[int, Picture]) -> Counter[str]:
        """Puts each object into its picture, in the order of their ids; gives the number of repeated ids."""
        gone = {entry.get("id"): None for entry in tree["images"] if _has_number(entry, "id")}
        known: dict[int, Picture | None] = gone | pictures
        built = self._build("annotations", tree, lambda entry, _: build_annotation(entry, labels, known))
        self._note_losses(tree, {index for index, _, _ in built}, pictures)
        kept: list[tuple[str, int, tuple[int, Annotation | None]]] = []
        seen: dict[int, tuple[int, Annotation | None]] = {}
        again = 0
        for index, number, value in built:
            if number in seen and (self.strict or seen[number] == value):
                self._leave_out(OBJECTS, index, EntryError(REPEATED, "each id once", f"{number} again"))
                continue
            again += number in seen
            seen.setdefault(number, value)
            kept.append((index, number, value))
        for index, _, (image, item) in sorted(kept, key=itemgetter(1)):
            if item is not None and min(item.box[2:]) > 0:
                pictures[image].objects.append(item)
            elif item is not None:
                pictures[image].lost.append(index)
                detail = f"expected a box with an extent, found {item.box[2]:g} x {item.box[3]:g}"
                self.left_out.append(LeftOut(OBJECTS, str(self.path), index, NO_AREA, detail, fault=False))
        return Counter({"repeated id": again} if again else {})

    def too_many(self, pictures: dict[int, Picture], limit: int) -> set[int]:
        """The pictures with more objects than may be."""
        found = set()
        for number, picture in pictures.items():
            if (count := len(picture.objects)) > limit:
                expected = f"at most {limit} objects in a picture (data.objects_per_image)"
                index = picture.file_name if self.strict else picture.entry
                self._leave_out(IMAGES, index, EntryError(TOO_MANY, expected, count))
                found.add(number)
        return found

    def _build(self, section: str, tree: Tree, build: Callable[..., Any]) -> list[tuple[str, int, Any]]:
        """Index and id of each entry of a section that holds, and what `build` makes of it."""
        kind = IMAGES if section == "images" else OBJECTS
        tried = (self._entry(kind, index, entry, build) for index, entry in _indexed(section, tree))
        return [built for built in tried if built is not None]

    def _entry(self, kind: str, index: str, entry: Any, build: Callable[..., Any]) -> tuple[str, int, Any] | None:
        try:
            return index, whole(entry, "id"), build(entry, index)
        except EntryError as error:
            self._leave_out(kind, index, error)
            return None

    def _leave_out(self, kind: str, index: str, error: EntryError) -> None:
        if self.strict:
            raise invalid(self.path, error.expected, error.found, index) from None
        # Made to be raised, so that what a hostile file says is cut to a line here as there.
        detail = invalid(self.path, error.expected, error.found, index).detail
        self.left_out.append(LeftOut(kind, str(self.path), index, error.reason, detail))

    def _note_losses(self, tree: Tree, built: set[str], pictures: dict[int, Picture]) -> None:
        """Tells the pictures which of their objects are left out."""
        for index, entry in _indexed("annotations", tree):
            if index not in built and _has_number(entry, "image_id") and entry["image_id"] in pictures:
                pictures[entry["image_id"]].lost.append(index)


def _indexed(section: str, tree: Tree) -> Iterator[tuple[str, Any]]:
    """The entries of a section with their places, as messages name them."""
    return ((f"{section}[{position}]", entry) for position, entry in enumerate(tree[section]))


def _has_number(entry: Any, key: str) -> bool:
    return isinstance(entry, dict) and type(entry.get(key)) is int


def _others(
    tree: Tree, labels: dict[int, int | None], names: dict[int, str], left_out: Sequence[LeftOut]
) -> dict[str, int]:
    """How many objects, beside those that are left out, are of each category outside the classes."""
    listed = {entry.entry for entry in left_out}
    entries = [entry for index, entry in _indexed("annotations", tree) if index not in listed]
    numbers = (entry["category_id"] for entry in entries if _has_number(entry, "category_id"))
    others = (names[number] for number in numbers if number in labels and labels[number] is None)
    return dict(Counter(f"objects of the category '{name}'" for name in others))

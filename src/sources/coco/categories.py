"""Which classes a set in COCO's format has, and which of its categories belong to them (`data.coco.classes`).

`supercategories`: the assignment's three, each with COCO's categories of that supercategory. A category belongs to one
by its supercategory, by its own name, or, where it has no supercategory, as COCO's category of that name.
`categories`: each category is a class, in the order of their ids. A mapping: class names to lists of category names.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from src.core.data_params import CATEGORIES, SUPERCATEGORIES, ClassesParam
from src.core.errors import invalid
from src.sources.assignment import CLASSES
from src.structures.classes import Classes

SETTING: Final = "data.coco.classes"
ADVICE: Final = f"{SETTING}={CATEGORIES} takes each category as a class"
# COCO's categories of the three supercategories, and other tools' spellings of two.
OF_COCO: Final = {
    "vehicle": "bicycle car motorcycle motorbike airplane aeroplane bus train truck boat",
    "person": "person",
    "animal": "bird cat dog horse sheep cow elephant bear zebra giraffe",
}
SUPERCATEGORY_OF: Final = {name: above for above, names in OF_COCO.items() for name in names.split()}
NOTHING: Final = ("", "none", "null")  # what tools write where a category has no supercategory


@dataclass(frozen=True)
class Category:
    """A category of an instances json; `supercategory` is empty where it has none."""

    number: int
    name: str
    supercategory: str


@dataclass(frozen=True)
class ClassRule:
    """How the categories of a set become its classes.

    Attributes:
        setting: what `data.coco.classes` says.
    """

    setting: ClassesParam

    def names(self, categories: Sequence[Category], earlier: Sequence[str], path: Path) -> tuple[str, ...]:
        """Names of the classes, in label order, as far as a part of the set tells.

        Args:
            categories: of the part.
            earlier: what this gave for the parts before it.
            path: the part's json, named in complaints.

        Raises:
            InputError: they cannot be the names of classes.
        """
        if isinstance(self.setting, tuple):
            return Classes.read([name for name, _ in self.setting], "params.yaml", SETTING).names
        if self.setting == SUPERCATEGORIES:
            return CLASSES.names
        own = [category.name for category in sorted(categories, key=lambda one: one.number)]
        names = Classes.read(own, path, "categories").names
        known = set(earlier)
        return Classes.read([*earlier, *(name for name in names if name not in known)], path, "categories").names

    def labels(self, categories: Sequence[Category], classes: Classes) -> dict[int, int | None]:
        """The label of each category by its id, None for those that belong to no class."""
        label_of = dict(classes.items())
        if self.setting == SUPERCATEGORIES:
            return {one.number: label_of.get(_supercategory(one)) for one in categories}
        if isinstance(self.setting, tuple):
            label_of = {member: label_of[name] for name, members in self.setting for member in members}
        return {one.number: label_of.get(one.name) for one in categories}

    def expected(self, classes: Classes) -> str:
        """What was to be found, and what would take more, for complaints that nothing was."""
        return f"the classes {classes.in_words()}" + ("" if self.setting == CATEGORIES else f" ({ADVICE})")

    def check_members(self, found: Iterable[str], where: str | Path) -> None:
        """Refuses a mapping with a category that no part of the set has.

        Args:
            found: names of all categories.
            where: the set, named in complaints.

        Raises:
            InputError: naming the category and those nearest to it.
        """
        names = list(dict.fromkeys(found))
        for name, members in self.setting if isinstance(self.setting, tuple) else ():
            for member in members:
                if member not in names:
                    near = difflib.get_close_matches(member, names, n=3, cutoff=0.4) or names[:3]
                    expected = f"a category of {where}, such as {', '.join(map(repr, near)) or 'none'}"
                    raise invalid("params.yaml", expected, f"'{member}'", f"{SETTING}.{name}")


def _supercategory(category: Category) -> str:
    """The assignment's class of a category; empty where it has none."""
    above, name = category.supercategory.strip().lower(), category.name.strip().lower()
    for known in (above, name):
        if known in CLASSES.names:
            return known
    return SUPERCATEGORY_OF.get(name, "") if above in NOTHING else ""

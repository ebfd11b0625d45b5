"""The classes of a data set. They belong to the set, not to the code: the files of a set and of a model name theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from src.core.errors import brief, invalid

BACKGROUND: Final = 0  # the label of what is no object
BACKGROUND_NAME: Final = "background"
MOST_CLASSES: Final = 1500  # LVIS, the largest public set, has 1203
LONGEST_NAME: Final = 100  # characters
IN_WORDS: Final = 6  # names that a line lists


@dataclass(frozen=True)
class Classes:
    """Names of the object classes in label order: the first one has label 1. Label 0 is the background.

    Raises:
        ValueError: there are no names or too many, one is no plain text, `background` or there twice.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if fault := _fault(self.names):
            raise ValueError(f"classes: expected {fault[0]}, found {fault[1]}")

    @classmethod
    def read(cls, names: Any, where: str | Path, index: str | None = None) -> Classes:
        """The classes that a file or a setting names.

        Args:
            names: a list, or what stands in its place.
            where: the file or setting named in complaints.
            index: the entry named in complaints.

        Raises:
            InputError: they are no classes.
        """
        if not isinstance(names, list | tuple):
            raise invalid(where, "a list of class names", brief(names), index)
        if fault := _fault(names):
            raise invalid(where, *fault, index)
        return cls(tuple(names))

    @property
    def count(self) -> int:
        """Number of labels: the object classes and the background."""
        return len(self.names) + 1

    @property
    def labels(self) -> range:
        """Labels of the object classes."""
        return range(1, self.count)

    @property
    def with_background(self) -> tuple[str, ...]:
        """A name for each label from 0 on."""
        return (BACKGROUND_NAME, *self.names)

    def items(self) -> Iterator[tuple[str, int]]:
        """Name and label of each object class."""
        return zip(self.names, self.labels, strict=True)

    def name_of(self, label: int) -> str:
        """The name of a label from 0 to `count` - 1."""
        return self.with_background[label]

    def label_of(self, name: str) -> int:
        """The label of an object class.

        Raises:
            ValueError: no class has the name.
        """
        return self.names.index(name) + 1

    def in_words(self) -> str:
        """The names for a line, the first ones where they are many."""
        more = len(self.names) - IN_WORDS
        return ", ".join(self.names[:IN_WORDS]) + (f" and {more} more" if more > 0 else "")


def require_same(found: Classes, wanted: Classes, where: str | Path) -> None:
    """Refuses what was made for other classes.

    Raises:
        InputError: names or their order differ.
    """
    if found == wanted:
        return
    if len(found.names) != len(wanted.names):
        expected, number = f"{len(wanted.names)} classes ({wanted.in_words()})", len(found.names)
        raise invalid(where, f"{expected}, as the data set has", f"{number} ({found.in_words()})")
    rows = zip(wanted.items(), found.names, strict=True)
    name, label, other = next((name, label, other) for (name, label), other in rows if name != other)
    raise invalid(where, f"the data set's classes, '{name}' with the label {label}", f"'{other}'")


def _fault(names: Sequence[Any]) -> tuple[str, str] | None:
    """What was expected of the names, and what was found; None where they are well."""
    if not 0 < len(names) <= MOST_CLASSES:
        return f"1 to {MOST_CLASSES:,} classes", f"{len(names):,}"
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
            return f"each class's name as a printable text of 1 to {LONGEST_NAME} characters", brief(name)
        if name != name.strip():
            return "each class's name without spaces around it", brief(name)
        if name.lower() == BACKGROUND_NAME:
            return "names of objects, as the background is a class by itself", brief(name)
        if name in seen:
            return "each class's name once", f"{brief(name)} again"
        seen.add(name)
    return None

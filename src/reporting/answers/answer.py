"""What an answer is made of: words for the template's gaps, figures, tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from src.reporting.formatting import ABSENT, MINUS, TIMES, UNDEFINED

NUMBER: Final = re.compile(rf"[\d\s.,%e{TIMES}{MINUS}]*( (s|min|h|k?B|MB|GB))?|{UNDEFINED}|{ABSENT}")


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes:
        path: a PNG.
        alt: what it shows, for screen readers.
        caption: how to read it.
    """

    path: Path
    alt: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A table of texts; the first column names its row.

    Attributes:
        head: the columns' names.
        rows: one text per column.
        caption: what it shows.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str

    @property
    def is_text(self) -> tuple[bool, ...]:
        """Of each column, whether it holds words: those are set flush left, numbers flush right."""
        columns = range(len(self.head))
        return tuple(any(not NUMBER.fullmatch(row[column]) for row in self.rows) for column in columns)

    @property
    def is_narrow(self) -> bool:
        """Whether it would look lost across the whole column."""
        return len(self.head) <= 3 and not any(self.is_text[1:])


@dataclass(frozen=True)
class Answer:
    """All that a task's template needs.

    Attributes:
        words: texts by name, complete sentences or formatted numbers.
        figures: by name.
        tables: by name.
        gallery: figures whose number is not known beforehand (task 18).
    """

    words: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Picture] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    gallery: Sequence[Picture] = ()

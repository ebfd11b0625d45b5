"""Numbers that know which key of which metrics file they come from, and texts that hand it on to the page.

`RunResults.value` reads numbers as `MeasuredInt` and `MeasuredFloat`; they compute as any number, and what is computed
from them has no origin. `src.reporting.formatting` writes them as a `Text`, which is a string that remembers the
origin; the page makes links of it. So a key is named once, where the number is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote


@dataclass(frozen=True)
class Origin:
    """A place in a metrics file.

    Attributes:
        stage: the file is `metrics/<stage>.json`.
        key: dotted, entries of lists by their number from 0; empty for the whole file.
    """

    stage: str
    key: str

    @property
    def file(self) -> str:
        """Below the project's root."""
        return f"metrics/{self.stage}.json"

    @property
    def anchor(self) -> str:
        """The id of the place in the page's listing of that file, without a character that a link cannot have."""
        return quote(f"{self.stage}.{self.key}", safe="")

    def __str__(self) -> str:
        return f"{self.file}: {self.key}"


class MeasuredInt(int):
    """A whole number of a metrics file."""

    origin: Origin


class MeasuredFloat(float):
    """A fraction or a real number of a metrics file."""

    origin: Origin


class Text(str):
    """A text some of whose parts are numbers of metrics files.

    Attributes:
        spans: of each such part its first character, its end and its origin, in order.
    """

    __slots__ = ("spans",)
    spans: tuple[tuple[int, int, Origin], ...]

    def pieces(self) -> Iterator[tuple[str, Origin | None]]:
        """The text in parts, each with its origin or None."""
        done = 0
        for first, end, origin in self.spans:
            yield self[done:first], None
            yield self[first:end], origin
            done = end
        yield self[done:], None


def measured(value: float, origin: Origin) -> int | float:
    """The number with its origin; truth values have none."""
    if isinstance(value, bool):
        return value
    number = MeasuredInt(value) if isinstance(value, int) else MeasuredFloat(value)
    number.origin = origin
    return number


def written(text: str, value: object) -> str:
    """A number's text, with the number's origin if it has one."""
    origin = getattr(value, "origin", None)
    return text if origin is None else _spanned(text, ((0, len(text), origin),))


def fill(template: str, *texts: str) -> str:
    """The template with each `{}` filled by a text, whose origins stay.

    Raises:
        ValueError: there are more or fewer texts than gaps.
    """
    first, *others = template.split("{}")
    whole, spans = first, []
    for text, after in zip(texts, others, strict=True):
        if isinstance(text, Text):
            spans += [(start + len(whole), end + len(whole), origin) for start, end, origin in text.spans]
        whole += text + after
    return _spanned(whole, tuple(spans)) if spans else whole


def respelled(text: str, other: str) -> str:
    """`other`, in which all letters stand where they stood in the text, with the text's origins."""
    return _spanned(other, text.spans) if isinstance(text, Text) and len(other) == len(text) else other


def leaves(value: Any, stage: str, key: str = "") -> Iterator[tuple[Origin, str]]:
    """Every entry of a metrics file that holds no further keys, with its content as JSON: what the page lists.

    A list of plain values is one entry: numbers in it have the list's own origin.
    """
    for name, item in items(value, key):
        yield from leaves(item, stage, name)
    if not nests(value):
        yield Origin(stage, key), json.dumps(value, ensure_ascii=False)


def items(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """What lies below an entry that nests, by its dotted key."""
    if nests(value):
        named = value.items() if isinstance(value, dict) else enumerate(value)
        yield from ((f"{key}.{name}" if key else str(name), item) for name, item in named)


def nests(value: Any) -> bool:
    """Whether an entry has keys below it: one with names, or a list of such."""
    if isinstance(value, list):
        return any(isinstance(item, dict) for item in value)
    return isinstance(value, dict) and bool(value)


def _spanned(text: str, spans: tuple[tuple[int, int, Origin], ...]) -> Text:
    whole = Text(text)
    whole.spans = spans
    return whole

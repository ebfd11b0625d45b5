"""The one error type for what a person can put right: bad params, broken files, an impossible request."""

from __future__ import annotations

import reprlib
from pathlib import Path

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, 120, 120, 40
LONGEST = 300  # characters of each part of a message: what stands in a hostile file may fill a disk


class InputError(ValueError):
    """Something outside the code is wrong. The message is one line a person can act on.

    Stages print it and exit with status 1, without a traceback.

    Attributes:
        expected: what would have been right; empty where the message has no such parts.
        found: what stood there instead.
    """

    expected: str = ""
    found: str = ""

    @property
    def detail(self) -> str:
        """The message without the place."""
        return f"expected {self.expected}, found {self.found}" if self.expected else str(self)


def invalid(where: str | Path, expected: str, found: object, index: int | str | None = None) -> InputError:
    """Builds the project's one-line complaint: where, which entry, what was expected, what was found.

    Args:
        where: the file, parameter or folder at fault.
        expected: what would have been right, in a few words.
        found: what stood there instead.
        index: the entry inside `where`, if one is at fault.

    Returns:
        The error, to be raised by the caller.
    """
    place = f"{where}" if index is None else f"{where}[{_cut(index)}]"
    expected, found = _cut(expected), _cut(found)
    error = InputError(one_line(f"{place}: expected {expected}, found {found}"))
    error.expected, error.found = one_line(expected), one_line(found)
    return error


def brief(value: object) -> str:
    """`repr` of anything that a file may hold: cut where it is long or nested deeply, never an error."""
    try:
        return _SHORT.repr(value)
    except (ValueError, RecursionError):  # Python prints no whole number of more than 4300 digits
        return f"a {type(value).__name__} too large to print"


def one_line(text: object) -> str:
    """`text` in one line that a terminal takes for nothing else: no line breaks, no control characters."""
    line = " ".join(str(text).split())
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in line)


def _cut(text: object) -> str:
    whole = str(text)
    return whole if len(whole) <= LONGEST else f"{whole[:LONGEST]} ..."

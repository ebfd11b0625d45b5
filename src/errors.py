"""The one error type for what a person can put right: bad params, broken files, an impossible request."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """Something outside the code is wrong. The message is one line a person can act on.

    Stages print it and exit with status 1, without a traceback.
    """


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
    place = f"{where}" if index is None else f"{where}[{index}]"
    text = f"{place}: expected {expected}, found {found}"
    return InputError(" ".join(text.split()))

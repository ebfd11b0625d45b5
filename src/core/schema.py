"""Reads a tree of YAML into frozen dataclasses whose annotations say what is allowed.

A field's annotation gives its type, its `Constraint` the allowed values. An unknown key is an error that names the
nearest known one; so are a missing key, a wrong type and a value out of range.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from src.core.errors import InputError, brief, invalid

Groups: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]  # a mapping of names to lists of names, in its order


@dataclass(frozen=True)
class Constraint:
    """Allowed values of a field: a closed range, an open lower bound, a choice, a length for lists.

    `words` are texts that a number's field takes too.
    """

    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    length: int | None = None

    def violation(self, value: Any) -> str | None:
        """What was expected, if `value` breaks the constraint; else None."""
        if self.length is not None and len(value) != self.length:
            return f"{self.length} values"
        if isinstance(value, tuple):
            return next((text for item in value if (text := self._item(item))), None)
        return self._item(value)

    def _item(self, value: Any) -> str | None:
        if self.choices and value not in self.choices:
            return "one of " + ", ".join(self.choices)
        if self.words and isinstance(value, str):
            return None if value in self.words else " or ".join([*self.words, self._range()])
        if isinstance(value, str | bool):
            return None
        if math.isfinite(value) and self.low <= value <= self.high and value > self.above:
            return None
        return self._range()

    def _range(self) -> str:
        if math.isinf(self.above):
            return f"a number in [{self.low:g}, {self.high:g}]"
        return f"a number above {self.above:g}" + ("" if math.isinf(self.high) else f" and at most {self.high:g}")


def build(kind: type, tree: Any, where: str = "") -> Any:
    """Builds the dataclass `kind` from a mapping.

    Args:
        kind: the dataclass; its fields are dataclasses, or types annotated with constraints.
        tree: what YAML gave.
        where: the dotted path of the section, for messages; empty at the top.

    Raises:
        InputError: a key is unknown or missing, or a value is not what its annotation asks for.
    """
    if not isinstance(tree, Mapping):
        raise invalid("params.yaml", f"a section under '{where or 'the top level'}'", type(tree).__name__)
    hints = typing.get_type_hints(kind, include_extras=True)
    for key in tree:
        if key not in hints:
            near = difflib.get_close_matches(_name(key), hints, n=1, cutoff=0)
            raise InputError(f"params.yaml: unknown key '{_join(where, key)}'; did you mean '{_join(where, near[0])}'?")
    for key in hints:
        if key not in tree:
            raise InputError(f"params.yaml: missing key '{_join(where, key)}'")
    return kind(**{key: _value(hints[key], tree[key], _join(where, key)) for key in hints})


def _value(hint: Any, value: Any, where: str) -> Any:
    """Checks one value against its annotation and constraint."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, where)
    base, constraints = (hint.__origin__, hint.__metadata__) if hasattr(hint, "__metadata__") else (hint, ())
    value = _convert(base, value, where)
    for constraint in constraints:
        if expected := constraint.violation(value):
            raise invalid("params.yaml", f"{expected} for '{where}'", brief(value))
    return value


def _convert(base: Any, value: Any, where: str) -> Any:
    """Gives `value` the type `base`: int where whole, float from int, tuple from a non-empty list."""
    if base == str | Groups:
        return _groups(value, where) if isinstance(value, Mapping) else _convert(str, value, where)
    if base == int | str:
        return value if isinstance(value, str) else _convert(int, value, where)
    number = isinstance(value, int | float) and not isinstance(value, bool) and not 2**63 <= abs(value) < math.inf
    if base is float and number:
        return float(value)
    if base is int and number and float(value).is_integer():
        return int(value)
    if base in (str, bool) and isinstance(value, base):
        return value
    if typing.get_origin(base) is tuple and isinstance(value, list) and value:
        return tuple(_convert(float, item, where) for item in value)
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    raise invalid("params.yaml", f"{names.get(base, 'a list of numbers')} for '{where}'", brief(value))


def _groups(value: Mapping[Any, Any], where: str) -> Groups:
    return tuple((_name_of(name, where), _names(members, where, name)) for name, members in value.items())


def _names(value: Any, where: str, group: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise invalid("params.yaml", f"a list of names for '{_name(group)}' in '{where}'", brief(value))
    return tuple(_name_of(item, where) for item in value)


def _name_of(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise invalid("params.yaml", f"texts as names in '{where}'", brief(value))
    return value


def _join(where: str, key: object) -> str:
    return f"{where}.{_name(key)}" if where else _name(key)


def _name(key: object) -> str:
    """A key as it stands in the file; it may be anything, and long."""
    return key[:100] if isinstance(key, str) else brief(key)

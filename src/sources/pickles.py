"""Numpy's object arrays without the danger of pickle: the course's labels and boxes (assignment, section 2).

An object array is stored as a pickle, a program for a small machine that may import and call anything. This reader

* looks through the program first and admits only the instructions that numpy's arrays need;
* puts harmless stand-ins in the place of the few names that numpy's arrays import, and refuses every other name;
* builds the arrays itself from the bytes found, with numbers as elements only.

So neither numpy's own unpickling, which trusts sizes and types that it reads, nor any other code runs. Python 2 wrote
texts and bytes alike (`BINSTRING`); they are read as latin-1, from which the bytes come back.

Where all entries have one shape, `np.save` makes a plain array of them; its rows are the entries then.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import tokenize
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from src.core.errors import brief, invalid

INSTRUCTIONS = (
    frozenset(("PROTO", "FRAME", "STOP", "MARK", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"))
    | {"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1"}
    | {"BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "BINSTRING", "SHORT_BINSTRING"}
    | {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"}
    | {"BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "MEMOIZE"}
)
ELEMENTS = frozenset(("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"))
LARGEST = 2**28  # bytes; the genuine files have less than a megabyte
MOST_ROWS = 2**20  # of a plain array; each becomes an object of a hundred bytes, however few bytes it has in the file
FAILURES = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError),
    *(MemoryError, OverflowError, RecursionError),
)


def read_arrays(path: Path) -> list[np.ndarray]:
    """Reads a .npy file: the elements of a one-dimensional object array, or the rows of an array of numbers.

    Args:
        path: the .npy file.

    Returns:
        Arrays of numbers, read-only.

    Raises:
        InputError: the file is missing, truncated or no such array; it asks for a name or an instruction that arrays
            of numbers do not need.
    """
    if not path.is_file():
        raise invalid(path, "a .npy file", "a folder" if path.is_dir() else "no such file")
    if path.stat().st_size > LARGEST:
        raise invalid(path, f"at most {LARGEST:,} bytes", f"{path.stat().st_size:,}")
    return parse_arrays(path.read_bytes(), path)


def parse_arrays(content: bytes, where: str | Path) -> list[np.ndarray]:
    """The arrays of a .npy file's content, as `read_arrays` gives them.

    Args:
        content: of the file.
        where: named in complaints.

    Raises:
        InputError: as of `read_arrays`.
    """
    stream = io.BytesIO(content)
    shape, fortran, dtype = _read_header(stream, where)
    program = stream.read()
    if dtype != np.dtype(object):
        return _rows(program, shape, fortran, dtype, where)
    try:
        _check_instructions(program)
        # Texts of Python 2 may be bytes of numbers, and latin-1 has a character for each byte.
        outer = _Reader(io.BytesIO(program), encoding="latin1").load()
        items = _outer_items(outer, shape[0])
    except FAILURES as error:
        raise invalid(where, "an object array of number arrays", f"{error or type(error).__name__}") from None
    return [_element(item, where, index) for index, item in enumerate(items)]


def _read_header(stream: io.BytesIO, where: str | Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of the array that the .npy header announces."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, about headers that Python 2 wrote
            shape, fortran, dtype = readers[np.lib.format.read_magic(stream)](stream)
    except (*FAILURES, SyntaxError, tokenize.TokenError) as error:
        raise invalid(where, "a .npy file", f"a broken header ({error})") from None
    numbers = dtype.str[1:] in ELEMENTS and 1 <= len(shape) <= 8 and 1 <= shape[0] <= MOST_ROWS
    if not numbers and not (dtype == np.dtype(object) and len(shape) == 1):
        expected = "an object array of one dimension, or an array of numbers with a row an image"
        raise invalid(where, expected, f"{dtype} of shape {brief(shape)}")
    return shape, fortran, dtype


def _rows(
    data: bytes, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any], where: str | Path
) -> list[np.ndarray]:
    """The rows of an array of numbers, whose sizes are checked before anything is made of them."""
    if min(shape) < 1 or math.prod(shape) * dtype.itemsize != len(data):
        raise invalid(where, f"the numbers of an array of shape {brief(shape)}", f"{len(data):,} bytes")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return [array[row, ...] for row in range(len(array))]  # arrays also where a row is one number


def _check_instructions(program: bytes) -> None:
    """Refuses instructions beyond the list, and memo numbers that would make the machine reserve gigabytes."""
    for instruction, argument, _ in pickletools.genops(program):
        if instruction.name not in INSTRUCTIONS:
            raise pickle.UnpicklingError(f"the pickle instruction {instruction.name}")
        if instruction.name == "LONG_BINPUT" and int(argument or 0) > len(program):
            raise pickle.UnpicklingError(f"the memo number {argument}")


@dataclass
class _Array:
    """What `_reconstruct` would make: an array to be filled by the state that follows."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


@dataclass
class _Type:
    """What `dtype` would make, e.g. `f4` and then, by its state, little-endian."""

    code: str
    order: str = field(default="|")

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


@dataclass(frozen=True)
class _Stand:
    """Stands for an imported name; calling it builds the harmless equivalent."""

    name: str

    def __call__(self, *arguments: Any) -> Any:
        if self.name == "_reconstruct":
            return _Array()
        if self.name == "dtype" and isinstance(arguments[0], str):  # of other things the text may have no end
            return _Type(arguments[0])
        if self.name == "encode" and arguments[1:] == ("latin1",):  # how protocol 2 spells bytes
            return arguments[0].encode("latin1")
        if self.name == "bytes" and not arguments:  # and no bytes at all
            return b""
        raise pickle.UnpicklingError(f"a call of {self.name}")


class _Reader(pickle.Unpickler):
    """The pickle machine, with an allow-list of names in the place of imports."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """The stand-in of an admitted name (numpy 1 says numpy.core, numpy 2 numpy._core)."""
        full = f"{module_name}.{global_name}"
        arrays = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
        if full in (*arrays, "numpy.ndarray", "numpy.dtype", "_codecs.encode", "__builtin__.bytes"):
            return _Stand(global_name)
        raise pickle.UnpicklingError(f"the name {full}, which arrays do not need")


def _outer_items(outer: Any, length: int) -> list[Any]:
    """The elements of the outer array, whose state is (version, shape, type, is Fortran order, list)."""
    if not isinstance(outer, _Array):
        raise TypeError(f"a {type(outer).__name__}")
    _, shape, kind, _, items = outer.state
    if not isinstance(kind, _Type) or kind.code not in ("O", "O8", "O4") or not isinstance(items, list):
        raise TypeError("an array of plain numbers")
    if shape != (length,) or len(items) != length:
        raise ValueError(f"{len(items)} elements where the header announces {length}")
    return items


def _element(item: Any, where: str | Path, index: int) -> np.ndarray:
    """Builds one array of numbers from its stand-in."""
    if not isinstance(item, _Array):
        raise invalid(where, "an array of numbers", f"a {type(item).__name__.strip('_')}", index)
    try:
        _, shape, kind, fortran, data = item.state
        if kind.code not in ELEMENTS or kind.order not in ("<", ">", "|", "="):
            raise invalid(where, "numbers", f"elements of type {kind.code}", index)
        content = data.encode("latin1") if isinstance(data, str) else data  # Python 2
        flat = np.frombuffer(content, np.dtype(kind.order + kind.code))
        return flat.reshape(shape, order="F" if fortran else "C")
    except FAILURES as error:
        raise invalid(where, "an array of numbers", error, index) from None

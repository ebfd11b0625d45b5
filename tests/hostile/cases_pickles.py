"""Object arrays that would do something when numpy reads them, in the place of the course's labels.

Those that run code leave a file `ran` in the working directory.
"""

from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.factories import write_raw_npy
from tests.hostile.case import Case, case
from tests.hostile.cases_course import LABELS, SAMPLES


class Call:
    """Pickles to a call of anything."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def evil(item: Any) -> Callable[[Path], None]:
    """An object array, one element of which calls something when numpy reads it."""

    def spoil(root: Path) -> None:
        array = np.empty(6, object)
        array[:] = [*(sample.labels for sample in SAMPLES[:5]), item]
        write_raw_npy(root / LABELS, pickle.dumps(array, protocol=2), 6)

    return spoil


def program(code: bytes) -> Callable[[Path], None]:
    return lambda root: write_raw_npy(root / LABELS, code, 6)


def header(text: str) -> Callable[[Path], None]:
    content = text.encode() + b"\n"
    return lambda root: (root / LABELS).write_bytes(b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content)


TOUCH = "touch ran"

CASES: dict[str, Case] = {
    "os.system": case(evil(Call(os.system, TOUCH)), LABELS, "the name posix.system"),
    "eval": case(evil(Call(eval, "open('ran', 'w')")), LABELS, "eval"),
    "subprocess": case(evil(Call(subprocess.Popen, TOUCH.split())), LABELS, "Popen"),
    "nested": case(evil([np.array([{"a": Call(os.system, TOUCH)}], object)]), LABELS, "instruction EMPTY_DICT"),
    "numpy's own loader": case(evil(Call(np.load, "ran.npy")), LABELS, "the name numpy.load"),
    "numpy's memory": case(evil(Call(np.ndarray, (10**13,))), LABELS, "a call of ndarray"),
    "memo": case(
        program(b"\x80\x02cposix\nsystem\nq\x01X\x09\x00\x00\x00touch ranq\x02h\x01h\x02\x85R."),
        LABELS,
        "the name posix.system",
    ),
    "memo in the name": case(
        program(b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94h\x00h\x01\x93X\x09\x00\x00\x00touch ran\x85R."),
        LABELS,
        "the name posix.system",
    ),
    "memo of gigabytes": case(program(b"\x80\x02Nr\xff\xff\xff\x7f."), LABELS, "the memo number 2147483647"),
    "a type that is a tree": case(
        program(b"\x80\x02cnumpy\ndtype\n(" + b"(" * 10_000 + b"t" * 10_000 + b"tR."), LABELS, "a call of dtype"
    ),
    "a type without end": case(
        program(b"\x80\x02cnumpy\ndtype\n)" + b"q\x00" + b"h\x00\x86q\x00" * 60 + b"\x85R."), LABELS, "a call of dtype"
    ),
    "a header of digits": case(
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (0x" + "f" * 5000 + ",)}"),
        LABELS,
        "an object array of one dimension, or an array of numbers",
    ),
    "numbers that are not there": case(
        header("{'descr': '<i8', 'fortran_order': False, 'shape': (6, 10000000000)}"), LABELS, "found 0 bytes"
    ),
    "a text of Python 2 that is not there": case(program(b"\x80\x02T\xff\xff\xff\x7f."), LABELS, "number arrays"),
    "os.system as Python 2 writes it": case(
        program(b"\x80\x02cposix\nsystem\nq\x01U\x09touch ran\x85R."), LABELS, "the name posix.system"
    ),
    "a header of signs": case(
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "-" * 9000 + "1,)}"), LABELS, "a broken header"
    ),
    "a header of Python 2": case(
        header("{'descr': '|O', 'fortran_order': False, 'shape': (6L,)}"), LABELS, "an object array of number arrays"
    ),
}

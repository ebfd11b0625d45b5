"""Object arrays without pickle's danger: numpy's own come through, whatever calls something else does not."""

import contextlib
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.errors import InputError
from src.sources.pickles import read_object_array
from tests.factories import write_npy, write_raw_npy


class Call:
    """Pickles to a call of anything."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("genuine", [True, False])
@pytest.mark.parametrize("dtype", ["int64", "float32", "float64", "uint8", "bool", ">i4"])
def test_reads_what_numpy_wrote(tmp_path: Path, genuine: bool, dtype: str) -> None:
    items = [np.arange(n * 4).reshape(n, 4).astype(dtype) for n in (1, 3, 0, 2)]
    items.append(np.asfortranarray(items[1]))
    path = tmp_path / "a.npy"
    write_npy(path, items, genuine=genuine)
    for one, other in zip(read_object_array(path), items, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "evil",
    [
        Call(os.system, "touch {}"),
        Call(eval, "open('{}', 'w')"),
        Call(subprocess.Popen, ["touch", "{}"]),
        Call(getattr, "text", "upper"),
        Call(np.load, "{}"),
        Call(np.ndarray, (10**13,)),
        Call(np.fromfile, "{}"),
        Call(bytearray, 10**12),
    ],
)
def test_runs_nothing(tmp_path: Path, protocol: int, evil: Any) -> None:
    mark = tmp_path / "mark"
    function, arguments = evil.call
    evil = Call(function, *(a.replace("{}", str(mark)) if isinstance(a, str) else a for a in arguments))
    array = np.empty(2, object)
    array[:] = [np.zeros(1), evil]
    path = tmp_path / "a.npy"
    write_raw_npy(path, pickle.dumps(array, protocol=protocol), 2)
    with pytest.raises(InputError, match=r"a\.npy"):
        read_object_array(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\nexec\n(S'1'\ntR.",
        b"\x80\x02cnumpy\nndarray\n(J\x00\x00\x00\x7ftR.",  # an array of terabytes
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a memo number that would reserve gigabytes
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x00\x00.",  # a byte string of petabytes
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00punyc\x86R.",
        b"\x80\x02" + b"]" * 10 + b".",
        b"\x80\x02N.",
        b"",
        b"not a pickle",
    ],
)
def test_refuses_programs_made_by_hand(tmp_path: Path, program: bytes) -> None:
    write_raw_npy(tmp_path / "a.npy", program, 1)
    with pytest.raises(InputError) as caught:
        read_object_array(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)


def test_refuses_data_that_do_not_fill_the_shape(tmp_path: Path) -> None:
    array = np.empty(1, object)
    array[:] = [np.arange(3)]
    program = pickle.dumps(array, protocol=2).replace(b"K\x03\x85", b"K\x7f\x85")
    write_raw_npy(tmp_path / "a.npy", program, 1)
    with pytest.raises(InputError, match=r"a.npy\[0\]"):
        read_object_array(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "items", [["text", "text"], [[1, 2], [3, 4, 5]], [np.array(["a"]), np.zeros(1)], [np.array([None]), np.zeros(2)]]
)
def test_refuses_elements_that_are_no_number_arrays(tmp_path: Path, items: list[Any]) -> None:
    write_npy(tmp_path / "a.npy", items)
    with pytest.raises(InputError, match=r"a.npy\[0\]"):
        read_object_array(tmp_path / "a.npy")


def test_refuses_plain_arrays_and_false_lengths(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    with pytest.raises(InputError, match="object array"):
        read_object_array(tmp_path / "a.npy")
    array = np.empty(2, object)
    array[:] = [np.zeros(1), np.zeros(2)]
    write_raw_npy(tmp_path / "a.npy", pickle.dumps(array, protocol=4), 10**9)
    with pytest.raises(InputError, match="announces 1000000000"):
        read_object_array(tmp_path / "a.npy")


@given(place=st.integers(0, 600), value=st.integers(0, 255))
def test_no_damaged_byte_brings_anything_but_a_complaint(tmp_path_factory: Any, place: int, value: int) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    write_npy(path, [np.arange(4), np.arange(3.0), np.zeros((2, 4), np.float32)])
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(content)
    with contextlib.suppress(InputError):  # any other exception fails the test
        assert len(read_object_array(path)) == 3

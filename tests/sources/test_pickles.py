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
from src.sources.pickles import read_arrays
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
    for one, other in zip(read_arrays(path), items, strict=True):
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
        read_arrays(path)
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
        read_arrays(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)


def test_refuses_data_that_do_not_fill_the_shape(tmp_path: Path) -> None:
    array = np.empty(1, object)
    array[:] = [np.arange(3)]
    program = pickle.dumps(array, protocol=2).replace(b"K\x03\x85", b"K\x7f\x85")
    write_raw_npy(tmp_path / "a.npy", program, 1)
    with pytest.raises(InputError, match=r"a.npy\[0\]"):
        read_arrays(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "items", [["text", "text"], [[1, 2], [3, 4, 5]], [np.array(["a"]), np.zeros(1)], [np.array([None]), np.zeros(2)]]
)
def test_refuses_elements_that_are_no_number_arrays(tmp_path: Path, items: list[Any]) -> None:
    write_npy(tmp_path / "a.npy", items)
    with pytest.raises(InputError, match=r"a.npy\[0\]"):
        read_arrays(tmp_path / "a.npy")


def test_refuses_false_lengths(tmp_path: Path) -> None:
    array = np.empty(2, object)
    array[:] = [np.zeros(1), np.zeros(2)]
    write_raw_npy(tmp_path / "a.npy", pickle.dumps(array, protocol=4), 10**9)
    with pytest.raises(InputError, match="announces 1000000000"):
        read_arrays(tmp_path / "a.npy")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["int64", "float32", ">i4"])
def test_a_plain_array_gives_its_rows(tmp_path: Path, order: Any, dtype: str) -> None:
    array = np.asarray(np.arange(24).reshape(3, 2, 4), dtype, order)
    np.save(tmp_path / "a.npy", array)
    rows = read_arrays(tmp_path / "a.npy")
    assert [row.dtype for row in rows] == [array.dtype] * 3
    np.testing.assert_array_equal(rows, array)


def write_plain(path: Path, shape: str, data: bytes, descr: str = "'<i8'") -> None:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data)


@pytest.mark.parametrize(
    ("shape", "data", "descr"),
    [
        ("(3,)", bytes(23), "'<i8'"),
        ("(3,)", bytes(25), "'<i8'"),
        ("(-1, -3)", bytes(24), "'<i8'"),
        ("(1, -1, -3)", bytes(24), "'<i8'"),
        ("(1, 0)", b"", "'<i8'"),
        ("(1000000000, 0)", b"", "'<i8'"),
        ("(1, 0x" + "f" * 5000 + ")", bytes(24), "'<i8'"),
        ("()", bytes(8), "'<i8'"),
        ("(0,)", b"", "'<i8'"),
        ("(3,)", bytes(24), "'<U2'"),
        ("(3,)", bytes(24), "'<M8[s]'"),
        ("(3,)", bytes(24), "[('a', '<i8')]"),
        ("(1048577,)", bytes(1048577), "'|u1'"),
        ("(2, 3)", bytes(48), "'|O'"),
    ],
)
def test_refuses_plain_arrays_that_are_no_rows_of_numbers(tmp_path: Path, shape: str, data: bytes, descr: str) -> None:
    write_plain(tmp_path / "a.npy", shape, data, descr)
    with pytest.raises(InputError, match=r"a\.npy: expected") as caught:
        read_arrays(tmp_path / "a.npy")
    assert len(str(caught.value)) < 400


def python_2(items: list[bytes], header: bytes = b"cnumpy.core.multiarray\n_reconstruct\nq\x01") -> bytes:
    """What `np.save` of Python 2 and numpy 1 wrote for an object array, its elements given as programs."""
    outer = b"\x80\x02" + header + b"cnumpy\nndarray\nq\x02K\x00\x85q\x03U\x01bq\x04\x87q\x05Rq\x06(K\x01"
    outer += b"K" + bytes([len(items)]) + b"\x85cnumpy\ndtype\nq\x08U\x02O8K\x00K\x01\x87R(K\x03U\x01|NNN"
    return outer + 2 * b"J\xff\xff\xff\xff" + b"K?tb\x89](" + b"".join(items) + b"etb."


def python_2_array(array: np.ndarray, long: bool) -> bytes:
    shape = b"".join(b"\x8a\x01" + bytes([side]) if long else b"K" + bytes([side]) for side in array.shape)
    data, code = array.tobytes(), array.dtype.str[1:].encode()
    text = b"T" + len(data).to_bytes(4, "little") if len(data) > 255 else b"U" + bytes([len(data)])
    kind = b"h\x08U\x02" + code + b"K\x00K\x01\x87R(K\x03U\x01<NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb"
    return b"h\x01h\x02K\x00\x85h\x04\x87R(K\x01(" + shape + b"t" + kind + b"\x89" + text + data + b"tb"


@pytest.mark.parametrize("long", [True, False])
def test_reads_what_python_2_wrote(tmp_path: Path, long: bool) -> None:
    rng = np.random.default_rng(0)  # every byte occurs
    items = [np.array([1, 3]), rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(50, 4))]
    write_raw_npy(tmp_path / "a.npy", python_2([python_2_array(item, long) for item in items]), 3)
    for one, other in zip(read_arrays(tmp_path / "a.npy"), items, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "evil",
    [
        b"cposix\nsystem\nU\x0atouch mark\x85R",
        b"c__builtin__\neval\nU\x011\x85R",
        b"c__builtin__\nbytes\nK\x7f\x85R",
        b"cnumpy\ndtype\nU\x01O\x85R",
        b"T\xff\xff\xff\x7fshort",
        b"T\xff\xff\xff\xffnegative",
        b"S'text'\n",
        b"ccopy_reg\n_reconstructor\n)R",
        b"(iposix\nsystem\n",
        b"(U\x04trueoposix",
    ],
)
def test_runs_nothing_of_python_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evil: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    write_raw_npy(tmp_path / "a.npy", python_2([evil]), 1)
    with pytest.raises(InputError, match=r"a\.npy"):
        read_arrays(tmp_path / "a.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


@given(place=st.integers(0, 600), value=st.integers(0, 255))
def test_no_damaged_byte_brings_anything_but_a_complaint(tmp_path_factory: Any, place: int, value: int) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    write_npy(path, [np.arange(4), np.arange(3.0), np.zeros((2, 4), np.float32)])
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(content)
    with contextlib.suppress(InputError):  # any other exception fails the test
        assert len(read_arrays(path)) == 3

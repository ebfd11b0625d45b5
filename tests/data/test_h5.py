"""What is checked before data are read, a cache that fits the chunks, and where each picture's rows begin."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from src.core.errors import InputError
from src.data.h5 import DEFAULT_CACHE, LARGEST_CACHE, cache_for, member, offsets, open_h5


@pytest.mark.parametrize(
    ("shape", "chunks", "expected"),
    [
        ((100, 3, 300, 400), (1, 3, 300, 400), DEFAULT_CACHE),
        ((100, 3, 300, 400), None, DEFAULT_CACHE),
        ((3265, 3, 300, 400), (103, 1, 19, 50), 2 * 103 * 3 * 304 * 400),
        ((3265, 3, 300, 400), (3265, 3, 300, 400), LARGEST_CACHE),
    ],
)
def test_the_cache_holds_two_bands_of_chunks(tmp_path: Path, shape: tuple, chunks: tuple, expected: int) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        assert cache_for(file.create_dataset("data", shape, np.uint8, chunks=chunks)) == expected


def test_complaints_name_what_stands_there(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["there"] = np.zeros((3, 4), np.float32)
    with open_h5(tmp_path / "a.h5") as file:
        assert member(file, "there", ("float32",), (None, 4)).shape == (3, 4)
        with pytest.raises(InputError, match=r"a dataset 'data', found the entries there"):
            member(file, "data", ("uint8",), (3,))
        with pytest.raises(InputError, match=r"expected the shape \(any, 5\) of 'there', found \(3, 4\)"):
            member(file, "there", ("float32",), (None, 5))
        with pytest.raises(InputError, match=r"expected the shape \(any\) of 'there'"):
            member(file, "there", ("float32",), (None,))
        with pytest.raises(InputError, match="expected bool or uint8 in 'there', found float32"):
            member(file, "there", ("bool", "uint8"), (3, 4))


def test_offsets() -> None:
    assert offsets([2, 0, 1]).tolist() == [0, 2, 2, 3]
    assert offsets([]).tolist() == [0]
    assert offsets([]).dtype == np.int64

"""Folder, limit, split and the pictures that figures show."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import random_split

from src.core.errors import InputError
from src.data.selection import limited, offsets, root_folder, rows_with_objects, split_names, two_object_row
from tests.factories import data_params


class Rows:
    """Pictures with given numbers of objects; the first two are for training."""

    def __init__(self, *counts: int) -> None:
        self.counts = counts

    def indices(self, split: str) -> list[int]:
        return [0, 1] if split == "train" else list(range(2, len(self.counts)))

    def object_count(self, index: int) -> int:
        return self.counts[index]


def test_the_course_s_own_split() -> None:
    names = split_names(3265, data_params("course"))
    assert (names.count("train"), names.count("test")) == (2612, 653)
    assert all(names[index] == "test" for index in (1680, 377, 3003, 562, 1140))


@pytest.mark.parametrize(("count", "fraction", "seed"), [(10, 0.8, 1), (7, 0.5, 3), (100, 0.33, 0)])
def test_the_split_is_torch_s_random_split(count: int, fraction: float, seed: int) -> None:
    torch.manual_seed(seed)
    train, _ = random_split(range(count), [int(fraction * count), count - int(fraction * count)])
    names = split_names(count, data_params("course", train_fraction=fraction, split_seed=seed))
    assert [index for index, name in enumerate(names) if name == "train"] == sorted(train.indices)


def test_splitting_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    split_names(50, data_params("course"))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("count", "fraction"), [(1, 0.8), (0, 0.8), (4, 0.01), (1, 0.99)])
def test_refuses_an_empty_side(count: int, fraction: float) -> None:
    with pytest.raises(InputError, match="train_fraction"):
        split_names(count, data_params("course", train_fraction=fraction))


def test_limit() -> None:
    assert [limited(10, data_params("course", limit=limit)) for limit in (0, 4, 10, 20)] == [10, 4, 10, 10]


def test_a_relative_root_is_one_of_the_main_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "main" / "set").mkdir(parents=True)
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert root_folder(data_params("coco", "set")) == tmp_path / "main" / "set"
    assert root_folder(data_params("coco", tmp_path)) == tmp_path
    monkeypatch.delenv("DVC_ROOT")
    with pytest.raises(InputError, match=r"data\.root"):
        root_folder(data_params("coco", "set"))


def test_the_picture_of_task_9() -> None:
    assert two_object_row(Rows(2, 2, 1, 3, 2, 2)) == 4
    assert two_object_row(Rows(2, 2, 0, 1, 3, 3)) == 4
    assert two_object_row(Rows(2, 2, 0, 0)) == 2


def test_pictures_of_the_figures() -> None:
    assert rows_with_objects(Rows(1, 1, 0, 1, 0, 2, 1), "test", 2) == [3, 5]
    assert rows_with_objects(Rows(1, 1), "test", 2) == []


def test_offsets() -> None:
    assert offsets([2, 0, 1]).tolist() == [0, 2, 2, 3]
    assert offsets([]).tolist() == [0]
    assert offsets([]).dtype == np.int64

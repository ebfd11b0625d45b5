"""Folder, limit and split of a source."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import random_split

from src.core.errors import InputError
from src.sources.splits import limited, root_folder, split_names
from tests.factories import data_params


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

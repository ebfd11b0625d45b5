"""Folder, limit and split of a source, and the part of the training pictures that is kept for validation."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import random_split

from src.core.errors import InputError
from src.sources.splits import hold_out, limited, root_folder, split_names
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


def places(names: list[str], split: str) -> set[int]:
    """Where a split's pictures are."""
    return {index for index, name in enumerate(names) if name == split}


@pytest.mark.parametrize(("fraction", "kept"), [(0.1, 261), (0.25, 653), (0.9, 2350)])
def test_validation_takes_its_share_of_the_course_s_training_pictures(fraction: float, kept: int) -> None:
    whole = split_names(3265, data_params("course"))
    names = split_names(3265, data_params("course", validation_fraction=fraction))
    assert places(names, "test") == places(whole, "test")
    assert len(places(names, "validation")) == kept
    assert places(names, "validation") | places(names, "train") == places(whole, "train")


@given(st.lists(st.sampled_from(["train", "test"]), max_size=60), st.floats(0.05, 0.9), st.integers(0, 99))
def test_validation_pictures_are_training_pictures(names: list[str], fraction: float, seed: int) -> None:
    """Never test pictures; the same ones every time; so many as the share comes to, or none at all by a refusal."""
    params = data_params("course", validation_fraction=fraction, split_seed=seed)
    train = names.count("train")
    if not 0 < int(fraction * train) < train:
        with pytest.raises(InputError, match="validation_fraction"):
            hold_out(names, params)
        return
    found = hold_out(tuple(names), params)
    assert len(places(found, "validation")) == int(fraction * train)
    assert ["train" if name == "validation" else name for name in found] == names
    assert hold_out(names, params) == found


def test_a_validation_fraction_of_0_changes_nothing() -> None:
    names = split_names(50, data_params("course"))
    assert hold_out(names, data_params("course", split_seed=9)) == names
    assert hold_out([], data_params("course")) == []


def test_another_seed_keeps_other_pictures() -> None:
    parts = [
        places(hold_out(["train"] * 100, data_params("emoji", validation_fraction=0.2, split_seed=seed)), "validation")
        for seed in range(4)
    ]
    assert all(one != other for number, one in enumerate(parts) for other in parts[:number])
    assert max(map(max, parts)) > 80  # from anywhere, not the first ones


@pytest.mark.parametrize(("train", "fraction", "found"), [(4, 0.2, "0 of 4"), (1, 0.9, "0 of 1"), (0, 0.5, "0 of 0")])
def test_refuses_a_validation_part_of_no_picture(train: int, fraction: float, found: str) -> None:
    with pytest.raises(InputError, match=rf"{found} training images \(data\.validation_fraction={fraction}\)"):
        hold_out(["train"] * train + ["test"] * 5, data_params("emoji", validation_fraction=fraction))


def test_refuses_a_validation_part_of_all_pictures() -> None:
    """No fraction that params allow comes to all of them; one that rounds up to 1 would."""
    with pytest.raises(InputError, match="4 of 4 training images"):
        hold_out(["train"] * 4, data_params("emoji", validation_fraction=1.0))


def test_holding_out_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    hold_out(["train"] * 20, data_params("course", validation_fraction=0.5))
    assert torch.equal(before, torch.get_rng_state())


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

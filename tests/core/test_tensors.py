"""Trees of tensors on disk: the same bytes for the same tensors, and never half a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from src.core.tensors import cpu_state_dict, save_tensors

TREE = {"backbone": {"w": torch.arange(6.0)}, "rpn": {"b": torch.ones(2, dtype=torch.bfloat16)}, "iteration": 3}


def clone(tree: object) -> object:
    """The same numbers in memory of their own."""
    if isinstance(tree, dict):
        return {name: clone(value) for name, value in tree.items()}
    return tree.clone() if isinstance(tree, torch.Tensor) else tree


def test_the_same_tensors_give_the_same_bytes_whatever_the_file_s_name(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.pt", "models/backbone.pt", "ä b.bin")]
    for path in paths:
        save_tensors(path, clone(TREE))
    assert len({path.read_bytes() for path in paths}) == 1


def test_other_tensors_give_other_bytes(tmp_path: Path) -> None:
    contents = set()
    for value in (torch.arange(6.0), torch.arange(6.0) + 1, torch.arange(6), torch.arange(6.0).reshape(2, 3)):
        save_tensors(tmp_path / "a.pt", {"w": value})
        contents.add((tmp_path / "a.pt").read_bytes())
    assert len(contents) == 4


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.pt", TREE)
    found = torch.load(tmp_path / "a.pt", weights_only=True)
    assert found.keys() == TREE.keys()
    assert torch.equal(found["backbone"]["w"], torch.arange(6.0))
    assert torch.equal(found["rpn"]["b"], torch.ones(2, dtype=torch.bfloat16))
    assert found["iteration"] == 3


def test_a_failed_save_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_tensors(path, TREE)
    before = path.read_bytes()
    with pytest.raises(AttributeError, match="local object"):
        save_tensors(path, {"w": lambda: 4})  # cannot be pickled
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_states_are_contiguous_and_on_the_processor() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    state = cpu_state_dict(net)
    assert list(state) == list(net.state_dict())
    assert not all(value.is_contiguous() for value in net.state_dict().values())
    assert all(value.is_contiguous() and value.device == torch.device("cpu") for value in state.values())
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in state.items())

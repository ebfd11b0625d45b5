"""Seeds, precision and threads."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.core import runtime
from src.core.params import RuntimeParams
from src.core.runtime import (
    available_cores,
    cache_dir,
    derive_seed,
    environment_info,
    generator,
    make_fabric,
    precision_name,
)

PROJECT = Path(__file__).parents[2]
numbers = st.integers(0, 10_000)


def draws(seed: int, *stream: int) -> list[float]:
    return torch.rand(4, generator=generator(seed, *stream)).tolist()


@given(seed=st.integers(0, 2**31 - 1), stream=st.lists(numbers, max_size=3))
def test_the_same_numbers_give_the_same_draws(seed: int, stream: list[int]) -> None:
    assert draws(seed, *stream) == draws(seed, *stream)
    assert 0 <= derive_seed(seed, *stream) < 2**63


@given(seed=numbers, first=st.lists(numbers, min_size=1, max_size=3), second=st.lists(numbers, min_size=1, max_size=3))
def test_other_streams_and_seeds_give_other_draws(seed: int, first: list[int], second: list[int]) -> None:
    assert draws(seed, *first) != draws(seed + 1, *first)
    assert draws(seed, *first) != draws(seed, *first, 0)
    if first != second:
        assert draws(seed, *first) != draws(seed, *second)


def test_no_two_images_of_a_long_training_share_a_stream() -> None:
    """torch's processor generator takes the lowest 32 bits of a seed only."""
    seeds = [derive_seed(1, epoch, image) % 2**32 for epoch in range(40) for image in range(3000)]
    assert len(seeds) - len(set(seeds)) <= 5


def test_neighboring_streams_are_not_alike() -> None:
    first = torch.tensor([draws(1, epoch, image) for epoch in range(20) for image in range(100)])
    assert first.mean(0).tolist() == pytest.approx([0.5] * 4, abs=0.03)
    assert abs(float(torch.corrcoef(torch.stack([first[:-1, 0], first[1:, 0]]))[0, 1])) < 0.08


def test_global_draws_do_not_touch_a_stream() -> None:
    before = draws(3, 5)
    torch.manual_seed(99)
    torch.rand(10)
    assert draws(3, 5) == before


@pytest.mark.parametrize(
    ("wanted", "fast", "expected"),
    [("auto", True, "bf16"), ("auto", False, "float32"), ("bf16", False, "bf16"), ("float32", True, "float32")],
)
def test_precision(monkeypatch: pytest.MonkeyPatch, wanted: str, fast: bool, expected: str) -> None:
    monkeypatch.setattr(runtime, "has_fast_bf16", lambda: fast)
    settings = RuntimeParams(wanted, 1, 1, 1)
    assert precision_name(settings) == expected
    assert environment_info(settings)["precision"] == expected
    with make_fabric(settings).autocast():
        product = torch.zeros(2, 2) @ torch.zeros(2, 2)
    assert product.dtype == (torch.bfloat16 if expected == "bf16" else torch.float32)


@pytest.mark.parametrize(
    ("device", "precision", "there", "expected"),
    [
        ("cpu", "float32", True, "NNPACK"),
        ("cpu", "float32", False, "PyTorch"),
        ("cpu", "bf16", True, "PyTorch"),
        ("mps", "float32", True, "PyTorch"),
    ],
)
def test_whose_convolutions(
    monkeypatch: pytest.MonkeyPatch, device: str, precision: str, there: bool, expected: str
) -> None:
    monkeypatch.setattr(runtime, "device_type", lambda: device)
    monkeypatch.setattr(runtime, "has_nnpack", lambda: there)
    assert environment_info(RuntimeParams(precision, 1, 1, 1))["convolutions"] == expected


def test_threads() -> None:
    try:
        make_fabric(RuntimeParams("float32", 3, 1, 1))
        assert torch.get_num_threads() == 3
        make_fabric(RuntimeParams("float32", 0, 1, 1))
        assert torch.get_num_threads() == available_cores()
    finally:
        torch.set_num_threads(1)
    assert environment_info(RuntimeParams("float32", 0, 1, 1))["threads"] == available_cores() >= 1


ALLOCATIONS = """
import resource, torch
from src.core.runtime import keep_freed_memory
{first}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def fill(times):
    for _ in range(times):
        torch.ones(2**24)
fill(10)
before = faults()
fill(10)
print((faults() - before) * resource.getpagesize() / 2**26)
"""


def new_tensors(first: str) -> float:
    command = [sys.executable, "-c", ALLOCATIONS.format(first=first)]
    return float(subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only GNU's C library has that choice")
def test_freed_memory_is_used_again() -> None:
    fresh, kept = new_tensors(""), new_tensors("keep_freed_memory()")
    assert fresh > 9  # of ten tensors, as many got new pages; were this to fail, the choice would be needless
    assert kept < 1


def test_the_cache_lies_in_the_main_workspace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert cache_dir() == Path(".cache")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache"

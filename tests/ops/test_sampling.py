"""Sampling: counts, kinds, repeatability, and parity with torchvision's sampler."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from src.ops.matching import IGNORED, NEGATIVE
from src.ops.sampling import Indices, sample, sample_balanced

labels = st.lists(st.sampled_from([IGNORED, NEGATIVE, 0, 1, 2]), max_size=60)

RULES: dict[str, Callable[[Tensor, int, torch.Generator], Indices]] = {
    "sample": lambda matches, count, generator: sample(matches, count, 0.5, generator),
    "sample_balanced": sample_balanced,
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(labels, st.integers(0, 40), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_sample_follows_the_rule(matches: list[int], count: int, fraction: float) -> None:
    tensor = torch.tensor(matches, dtype=torch.int64)
    positives, negatives = sample(tensor, count, fraction, seeded())
    have_positive, have_negative = sum(m >= 0 for m in matches), matches.count(NEGATIVE)
    assert len(positives) == min(have_positive, int(count * fraction))
    assert len(negatives) == min(have_negative, count - len(positives))
    assert (tensor[positives] >= 0).all()
    assert (tensor[negatives] == NEGATIVE).all()
    drawn = torch.cat([positives, negatives]).tolist()
    assert len(set(drawn)) == len(drawn)


@given(labels, st.integers(2, 40))
def test_balanced_is_one_to_one(matches: list[int], count: int) -> None:
    tensor = torch.tensor(matches, dtype=torch.int64)
    positives, negatives = sample_balanced(tensor, count, seeded())
    have_positive, have_negative = sum(m >= 0 for m in matches), matches.count(NEGATIVE)
    assert (tensor[positives] >= 0).all()
    assert (tensor[negatives] == NEGATIVE).all()
    if have_positive and have_negative:
        assert len(positives) == len(negatives) == min(have_positive, have_negative, count // 2)
    else:
        assert (len(positives), len(negatives)) == (min(have_positive, 1), min(have_negative, 1))


@given(labels, st.integers(0, 40), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_sample_takes_as_many_as_torchvision(matches: list[int], count: int, fraction: float) -> None:
    tensor = torch.tensor(matches, dtype=torch.int64)
    theirs = BalancedPositiveNegativeSampler(count, fraction)([tensor + 1])  # -1 ignored, 0 negative, 1 and up positive
    assert [len(drawn) for drawn in sample(tensor, count, fraction, seeded())] == [int(m[0].sum()) for m in theirs]


@pytest.mark.parametrize("rule", RULES)
def test_the_seed_decides(rule: str) -> None:
    matches = torch.randint(-2, 3, (500,), generator=seeded(9))
    for first, again, other in zip(*(RULES[rule](matches, 64, seeded(s)) for s in (1, 1, 2)), strict=True):
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("positives", "negatives"), [(20, 20), (20, 0), (0, 20)])
def test_all_candidates_have_their_chance(rule: str, positives: int, negatives: int) -> None:
    """A draw that favors the first candidates would train on the top of the picture only."""
    matches, generator = torch.cat([torch.zeros(positives), torch.full((negatives,), NEGATIVE)]).long(), seeded(3)
    draws = [torch.cat(RULES[rule](matches, 10, generator)) for _ in range(400)]
    chances = torch.cat(draws).bincount(minlength=len(matches)) / len(draws)
    assert (chances > 0).all()
    assert ((chances - chances.mean()).abs() < 0.09).all()

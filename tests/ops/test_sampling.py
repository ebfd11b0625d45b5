"""Sampling: counts, kinds, ground truth, repeatability, and parity with torchvision's sampler."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from src.ops.matching import IGNORED, NEGATIVE
from src.ops.sampling import Sampled, sample, sample_balanced

labels = st.lists(st.sampled_from([IGNORED, NEGATIVE, 0, 1, 2]), max_size=60)

RULES: dict[str, Callable[[Tensor, int, torch.Generator], Sampled]] = {
    "sample": lambda matches, count, generator: sample(matches, count, 0.5, generator),
    "sample_balanced": sample_balanced,
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def check_kinds(matches: Tensor, drawn: Sampled) -> None:
    """Positives first, then negatives, each ascending, none twice; the ground truth is that of the positives."""
    kinds = (matches[drawn.indices] >= 0).tolist()
    assert kinds == [True] * drawn.positives + [False] * (len(drawn.indices) - drawn.positives)
    assert (matches[drawn.negative] == NEGATIVE).all()
    assert torch.equal(torch.cat([drawn.positive, drawn.negative]), drawn.indices)
    for part in (drawn.positive, drawn.negative):
        assert part.tolist() == sorted(set(part.tolist()))
    assert drawn.truth.tolist() == [matches[index] for index in drawn.positive.tolist()]


@given(labels, st.integers(0, 40), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_sample_follows_the_rule(matches: list[int], count: int, fraction: float) -> None:
    tensor = torch.tensor(matches, dtype=torch.int64)
    drawn = sample(tensor, count, fraction, seeded())
    have_positive, have_negative = sum(m >= 0 for m in matches), matches.count(NEGATIVE)
    assert drawn.positives == min(have_positive, int(count * fraction))
    assert len(drawn.negative) == min(have_negative, count - drawn.positives)
    check_kinds(tensor, drawn)


@given(labels, st.integers(2, 40))
def test_balanced_is_one_to_one(matches: list[int], count: int) -> None:
    tensor = torch.tensor(matches, dtype=torch.int64)
    drawn = sample_balanced(tensor, count, seeded())
    have_positive, have_negative = sum(m >= 0 for m in matches), matches.count(NEGATIVE)
    check_kinds(tensor, drawn)
    if have_positive and have_negative:
        assert drawn.positives == len(drawn.negative) == min(have_positive, have_negative, count // 2)
    else:
        assert (drawn.positives, len(drawn.negative)) == (min(have_positive, 1), min(have_negative, 1))


@given(labels, st.integers(0, 40), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_sample_takes_as_many_as_torchvision(matches: list[int], count: int, fraction: float) -> None:
    tensor = torch.tensor(matches, dtype=torch.int64)
    theirs = BalancedPositiveNegativeSampler(count, fraction)([tensor + 1])  # -1 ignored, 0 negative, 1 and up positive
    ours = sample(tensor, count, fraction, seeded())
    assert [len(ours.positive), len(ours.negative)] == [int(mask[0].sum()) for mask in theirs]


@pytest.mark.parametrize("rule", RULES)
def test_the_seed_decides(rule: str) -> None:
    matches = torch.randint(-2, 3, (500,), generator=seeded(9))
    first, again, other = (RULES[rule](matches, 64, seeded(seed)) for seed in (1, 1, 2))
    for name in ("positive", "negative", "truth"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("positives", "negatives"), [(20, 20), (20, 0), (0, 20)])
def test_all_candidates_have_their_chance(rule: str, positives: int, negatives: int) -> None:
    """A draw that favors the first candidates would train on the top of the picture only."""
    matches, generator = torch.cat([torch.zeros(positives), torch.full((negatives,), NEGATIVE)]).long(), seeded(3)
    draws = [RULES[rule](matches, 10, generator).indices for _ in range(400)]
    chances = torch.cat(draws).bincount(minlength=len(matches)) / len(draws)
    assert (chances > 0).all()
    assert ((chances - chances.mean()).abs() < 0.09).all()


def test_ground_truth_goes_with_the_positives_that_were_drawn() -> None:
    """Boxes 4 and 2 of the ground truth, whatever candidates lie between."""
    drawn = sample(torch.tensor([IGNORED, 4, NEGATIVE, IGNORED, 2, NEGATIVE]), 4, 0.5, seeded())
    assert (drawn.indices.tolist(), drawn.positives) == ([1, 4, 2, 5], 2)
    assert (drawn.positive.tolist(), drawn.negative.tolist(), drawn.truth.tolist()) == ([1, 4], [2, 5], [4, 2])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("matches", [[], [IGNORED, IGNORED]])
def test_nothing_to_draw_from(rule: str, matches: list[int]) -> None:
    drawn = RULES[rule](torch.tensor(matches, dtype=torch.int64), 8, seeded())
    assert (drawn.indices.tolist(), drawn.positives, drawn.truth.tolist()) == ([], 0, [])
    assert drawn.indices.dtype == drawn.truth.dtype == torch.int64

"""Sampling: counts, kinds, repeatability."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from src.ops.matching import IGNORED, NEGATIVE
from src.ops.sampling import sample, sample_balanced

labels = st.lists(st.sampled_from([IGNORED, NEGATIVE, 0, 1, 2]), max_size=60)


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


def test_the_seed_decides() -> None:
    matches = torch.randint(-2, 3, (500,), generator=seeded(9))
    first, again, other = (torch.cat(sample(matches, 64, 0.5, seeded(s))) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_all_candidates_have_their_chance() -> None:
    """A draw that favours the first candidates would train on the top of the picture only."""
    matches, generator = torch.full((20,), NEGATIVE), seeded(3)
    seen = torch.stack([torch.bincount(sample(matches, 5, 0.5, generator)[1], minlength=20) for _ in range(400)])
    assert ((seen.float().mean(dim=0) - 0.25).abs() < 0.09).all()

"""Means, spreads and paired differences against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from tests.tools.study.samples import table
from tools.study.statistics import differences, spread

VALUES = st.lists(st.floats(0, 1), min_size=2, max_size=6)


def test_mean_and_sample_deviation_of_each_variant() -> None:
    found = spread(table(one=[0.1, 0.3], two=[0.5, 0.5]), "box_ap")
    assert found.index.tolist() == ["one", "two"]
    assert found.loc["one"].tolist() == pytest.approx([0.2, np.std([0.1, 0.3], ddof=1), 2])
    assert found.loc["two"].tolist() == pytest.approx([0.5, 0.0, 2])


@given(pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8))
def test_one_variant_gives_the_paired_t_interval(pairs: list[tuple[float, float]]) -> None:
    one, two = map(list, zip(*pairs, strict=True))
    (found,) = differences(table(one=one, two=two), "one", "box_ap")
    if np.ptp(np.subtract(two, one)) < 1e-9:
        return  # scipy warns where nothing varies
    low, high = ttest_rel(two, one).confidence_interval(0.95)
    assert found.mean == pytest.approx((low + high) / 2, abs=1e-9)
    assert found.margin == pytest.approx((high - low) / 2, abs=1e-9)
    assert found.is_shown == (low > 0 or high < 0)


def test_the_spread_is_pooled_over_variants() -> None:
    base = [0.0, 0.0, 0.0]
    still, moving = [0.1, 0.1, 0.1], [0.4, 0.1, 0.7]
    found = differences(table(base=base, still=still, moving=moving), "base", "box_ap")
    pooled = (2 * np.var(still, ddof=1) + 2 * np.var(moving, ddof=1)) / 4
    assert [one.margin for one in found] == pytest.approx([2.776445 * (pooled / 3) ** 0.5] * 2, rel=1e-6)
    assert [one.pairs for one in found] == [3, 3]


def test_a_seed_that_one_side_lacks_makes_no_pair() -> None:
    frame = table(one=[0.1, 0.2, 0.3], two=[0.2, 0.4])
    frame.loc[frame["variant"].eq("two") & frame["seed"].eq(0), "box_ap"] = None  # undefined there
    (found,) = differences(frame, "one", "box_ap")
    assert (found.pairs, found.mean, found.margin, found.is_shown) == (1, pytest.approx(0.2), None, False)


def test_without_the_baseline_nothing_is_compared() -> None:
    assert differences(table(two=[0.2, 0.4]), "one", "box_ap") == []
    assert differences(table(one=[0.2, 0.4]), "one", "box_ap") == []


@given(one=VALUES, shift=st.floats(-1, 1))
def test_a_shift_of_every_seed_is_shown_unless_it_is_none(one: list[float], shift: float) -> None:
    (found,) = differences(table(one=one, two=[value + shift for value in one]), "one", "box_ap")
    assert found.mean == pytest.approx(shift, abs=1e-9)
    assert found.margin == pytest.approx(0, abs=1e-6)


def test_rows_may_come_in_any_order() -> None:
    frame = table(one=[0.1, 0.2], two=[0.5, 0.7], three=[0.3, 0.1])
    shuffled = pd.concat([frame.iloc[:2], frame.iloc[:1:-1]])
    ours = {one.variant: (one.mean, one.margin) for one in differences(shuffled, "one", "box_ap")}
    expected = {one.variant: (one.mean, one.margin) for one in differences(frame, "one", "box_ap")}
    assert ours == {variant: pytest.approx(values) for variant, values in expected.items()}

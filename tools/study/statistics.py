"""What a study's table says: means and spreads over seeds, and which differences are larger than seeds make.

A run and the baseline's run of the same seed are a pair: they differ by the setting alone. Over few seeds a pair's
own spread is a poor guess, so it is pooled over all variants: with v variants beside the baseline and n seeds it has
v (n - 1) degrees of freedom. Seeds are not drawn anew, as images are: three give too few draws to be of use.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from scipy.stats import t

from src.reporting.answers.studies import LEVEL, Difference
from tools.study.draws import Draws, interval


def spread(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean, sample standard deviation and number of runs of each variant, in the table's order."""
    return frame.groupby("variant", sort=False)[metric].agg(["mean", "std", "count"])


def differences(frame: pd.DataFrame, baseline: str, metric: str, draws: Draws | None = None) -> list[Difference]:
    """Every other variant against the baseline.

    Args:
        frame: a row a run with `variant`, `seed` and the metric; undefined metrics are left out.
        baseline: the variant to compare with.
        metric: a column.
        draws: of the runs, as `draws.read_draws` gives them.
    """
    wide = frame.pivot(index="seed", columns="variant", values=metric)
    if baseline not in wide:
        return []
    others = [variant for variant in frame["variant"].unique() if variant != baseline]
    paired = {variant: (wide[variant] - wide[baseline]).dropna() for variant in others}
    paired = {variant: values for variant, values in paired.items() if len(values)}
    pooled, freedom = _pooled_spread(list(paired.values()))
    return [
        Difference(
            variant,
            metric,
            len(values),
            float(values.mean()),
            _margin(pooled, freedom, len(values)),
            interval(draws or {}, baseline, variant, list(values.index), metric),
        )
        for variant, values in paired.items()
    ]


def _pooled_spread(groups: Sequence[pd.Series]) -> tuple[float, int]:
    """The standard deviation within the groups, and its degrees of freedom."""
    freedom = sum(len(values) - 1 for values in groups)
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in groups)
    return ((squares / freedom) ** 0.5 if freedom else 0.0), freedom


def _margin(pooled: float, freedom: int, pairs: int) -> float | None:
    if not freedom:
        return None
    return float(t.ppf(0.5 + LEVEL / 2, freedom)) * pooled / pairs**0.5

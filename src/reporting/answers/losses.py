"""What a training's losses did, in words and as a figure (tasks 4, 6, 7, 11, 14 and 16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pandas as pd

from src.reporting.answers.answer import Picture
from src.reporting.formatting import change, score
from src.reporting.run_results import RunResults

END_SHARE: Final = 0.05  # of the iterations, averaged at either end of a curve
CLOSE: Final = 1.15  # a test loss up to this many times the training loss counts as level with it
FAR: Final = 1.6


@dataclass(frozen=True)
class LossTrend:
    """One loss term from the first to the last iterations.

    `highest` is the highest mean of as many iterations as either end has; `test` the last on the test split, if any.
    """

    first: float
    highest: float
    last: float
    test: float | None
    weight: float

    @property
    def rose(self) -> bool:
        """Whether it was well above its beginning on the way to a lower end."""
        return self.last < self.first and self.highest > FAR * self.first

    @property
    def left(self) -> float:
        """The share of the loss that is left at the end."""
        return self.last / self.first if self.first else 1.0


def loss_trend(results: RunResults, stage: str, term: str) -> LossTrend:
    """Reads `plots/<stage>/train.csv`, and `test.csv` where there is one.

    Raises:
        InputError: the table of the training is missing, or lacks the term.
    """
    train = results.table(f"{stage}/train")
    results.columns(f"{stage}/train", train, term)
    rows = max(1, round(END_SHARE * len(train)))
    first, last = float(train[term].head(rows).mean()), float(train[term].tail(rows).mean())
    highest = float(train[term].rolling(rows).mean().max())
    has_test = (results.root / "plots" / stage / "test.csv").is_file()
    test = results.table(f"{stage}/test") if has_test else pd.DataFrame()
    return LossTrend(first, highest, last, _last(test, term), _weight(train, term))


def describe(loss: LossTrend) -> str:
    """`fell from 0.693 to 0.210 on the training images; ...`: the whole story of one curve."""
    text = f"{change(loss.first, loss.last, 'score')} on the training images"
    if loss.test is None:
        return f"{text}."
    if loss.test <= CLOSE * loss.last:
        return f"{text} and ended at {score(loss.test)} on the test images: level with training, so no overfitting."
    gap = "a modest gap" if loss.test <= FAR * loss.last else "a wide gap"
    reason = "part of what was learned belongs to the training images alone"
    return f"{text} and ended at {score(loss.test)} on the test images: {gap}, so {reason}."


def history(results: RunResults, stage: str, shown: str) -> Picture:
    """The chart of a training's losses."""
    return Picture(
        results.charts / f"{stage}.png",
        f"{shown} over iterations",
        f"{shown}, over iterations. Faint: each iteration; bold: running mean; dashed: test images.",
    )


def _weight(train: pd.DataFrame, term: str) -> float:
    """Weighted over raw, where the term was learned from: a phase of alternating training leaves some terms out."""
    ratios = (train.get(f"{term}_weighted", train[term]) / train[term])[train[term] > 0]
    if ratios.empty:
        return 1.0
    return float(ratios[ratios > 0].median()) if ratios.any() else 0.0


def _last(test: pd.DataFrame, term: str) -> float | None:
    if term not in test or test[term].dropna().empty:
        return None
    return float(test[term].dropna().iloc[-1])

"""A loss term with what it is a mean over, so that the parts of a minibatch can be put together."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class LossTerm:
    """One term of a detector's losses.

    Attributes:
        value: the raw term, a mean.
        count: how many sampled anchors, RoIs or images it is a mean over. Where a minibatch is shared out to several
            processes, the term of the whole is the mean of theirs, weighted by this.
    """

    value: Float[Tensor, ""]
    count: int


def values(terms: dict[str, LossTerm]) -> dict[str, Tensor]:
    """The raw terms alone."""
    return {name: term.value for name, term in terms.items()}

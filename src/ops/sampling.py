"""The few anchors or proposals of an image that enter the losses (tasks 4, 6 and 14).

Drawn on a CPU generator, so that the same seed gives the same draw on every device. Ignored boxes are never drawn,
no box twice.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from src.ops.boxes import Number
from src.ops.matching import NEGATIVE


@dataclass(frozen=True)
class Sampled:
    """Boxes drawn for a loss.

    Attributes:
        indices: into the candidates; positives first, each kind in ascending order.
        positives: how many of them are positive.
        truth: the ground truth of each positive.
    """

    indices: Int64[Tensor, " n"]
    positives: int
    truth: Int64[Tensor, " p"]

    @property
    def positive(self) -> Int64[Tensor, " p"]:
        """Indices of the positives."""
        return self.indices[: self.positives]

    @property
    def negative(self) -> Int64[Tensor, " q"]:
        """Indices of the negatives."""
        return self.indices[self.positives :]


def sample(matches: Int64[Tensor, " n"], count: int, positive_fraction: Number, generator: torch.Generator) -> Sampled:
    """At most `count` boxes, positives up to their share, the rest filled with negatives (torchvision's rule).

    Args:
        matches: what `matching.match` gives: >= 0 positive, NEGATIVE, IGNORED.
        count: boxes to draw.
        positive_fraction: the largest share of positives, 0..1.
        generator: on the CPU.
    """
    positives, negatives = _candidates(matches)
    wanted = min(len(positives), int(count * positive_fraction))
    return _draw(matches, (positives, negatives), (wanted, min(len(negatives), count - wanted)), generator)


def sample_balanced(matches: Int64[Tensor, " n"], count: int, generator: torch.Generator) -> Sampled:
    """As many positives as negatives, at most `count` together (the assignment's 1:1).

    Where one kind is missing, a single box of the other is drawn: an image without objects still teaches, but does
    not tip a batch's balance.

    Args:
        matches: what `matching.match` gives: >= 0 positive, NEGATIVE, IGNORED.
        count: boxes to draw, of both kinds together.
        generator: on the CPU.
    """
    positives, negatives = _candidates(matches)
    each = min(len(positives), len(negatives), count // 2)
    if each == 0 and count > 0:
        wanted = min(len(positives), 1), min(len(negatives), 1) if not len(positives) else 0
    else:
        wanted = each, each
    return _draw(matches, (positives, negatives), wanted, generator)


def _candidates(matches: Tensor) -> tuple[Tensor, Tensor]:
    return (matches >= 0).nonzero().squeeze(1), (matches == NEGATIVE).nonzero().squeeze(1)


def _draw(
    matches: Tensor, candidates: tuple[Tensor, Tensor], counts: tuple[int, int], generator: torch.Generator
) -> Sampled:
    positives, negatives = (
        _choose(len(kind), count, generator) for kind, count in zip(candidates, counts, strict=True)
    )
    chosen = torch.cat([positives, len(candidates[0]) + negatives]).to(matches.device)  # one copy to the device
    indices = torch.cat(candidates)[chosen]
    return Sampled(indices, len(positives), matches[indices[: len(positives)]])


def _choose(candidates: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(candidates, generator=generator)[:count].sort().values

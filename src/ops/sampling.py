"""The few anchors or proposals of an image that enter the losses (tasks 4, 6 and 14).

Drawn on a CPU generator, so that the same seed gives the same draw on every device. Ignored boxes are never drawn,
no box twice. Indices come in ascending order.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from src.ops.boxes import Number
from src.ops.matching import NEGATIVE

Indices = tuple[Int64[Tensor, " positives"], Int64[Tensor, " negatives"]]


def sample(matches: Int64[Tensor, " n"], count: int, positive_fraction: Number, generator: torch.Generator) -> Indices:
    """At most `count` boxes, positives up to their share, the rest filled with negatives (torchvision's rule).

    Args:
        matches: what `matching.match` gives: >= 0 positive, NEGATIVE, IGNORED.
        count: boxes to draw.
        positive_fraction: the largest share of positives, 0..1.
        generator: on the CPU.

    Returns:
        Indices of the positives and of the negatives drawn.
    """
    positives, negatives = _candidates(matches)
    wanted = min(len(positives), int(count * positive_fraction))
    return _draw(positives, wanted, generator), _draw(negatives, min(len(negatives), count - wanted), generator)


def sample_balanced(matches: Int64[Tensor, " n"], count: int, generator: torch.Generator) -> Indices:
    """As many positives as negatives, at most `count` together (the assignment's 1:1).

    Where one kind is missing, a single box of the other is drawn: an image without objects still teaches, but does
    not tip a batch's balance.

    Args:
        matches: what `matching.match` gives: >= 0 positive, NEGATIVE, IGNORED.
        count: boxes to draw, of both kinds together.
        generator: on the CPU.

    Returns:
        Indices of the positives and of the negatives drawn.
    """
    positives, negatives = _candidates(matches)
    each = min(len(positives), len(negatives), count // 2)
    if each == 0 and count > 0:
        wanted = min(len(positives), 1), min(len(negatives), 1) if not len(positives) else 0
    else:
        wanted = each, each
    return _draw(positives, wanted[0], generator), _draw(negatives, wanted[1], generator)


def _candidates(matches: Tensor) -> Indices:
    return (matches >= 0).nonzero().squeeze(1), (matches == NEGATIVE).nonzero().squeeze(1)


def _draw(candidates: Tensor, count: int, generator: torch.Generator) -> Tensor:
    chosen = torch.randperm(len(candidates), generator=generator)[:count].sort().values
    return candidates[chosen.to(candidates.device)]

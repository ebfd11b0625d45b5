"""The loss terms of all stages (tasks 4, 6, 7, 14, 16), each a mean over what was sampled, so that weights compare."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F


def objectness_loss(logits: Float[Tensor, " n"], positives: int) -> Float[Tensor, ""]:
    """Point-wise binary cross entropy over the sampled anchors, of which the first `positives` are objects."""
    target = torch.zeros_like(logits, dtype=torch.float32)
    target[:positives] = 1
    return F.binary_cross_entropy_with_logits(logits.float(), target, reduction="sum") / max(len(target), 1)


def delta_loss(deltas: Float[Tensor, "p 4"], targets: Float[Tensor, "p 4"], sampled: int) -> Float[Tensor, ""]:
    """Smooth L1 (beta 1), summed over the four coordinates of the positives, over the number of *all* sampled boxes.

    The classifier's loss is a mean over the same number: both are normalized alike, as task 7 asks.
    """
    return F.smooth_l1_loss(deltas.float(), targets, reduction="sum", beta=1.0) / max(sampled, 1)


def class_loss(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
    """Cross entropy, a mean over the sampled RoIs; background is class 0. The softmax is in it."""
    return F.cross_entropy(logits.float(), labels, reduction="sum") / max(len(labels), 1)


def mask_loss(logits: Float[Tensor, "r m m"], targets: Float[Tensor, "r m m"]) -> Float[Tensor, ""]:
    """Pixelwise binary cross entropy of the masks of the true classes, a mean over pixels and RoIs."""
    total = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum")
    return total / max(targets.numel(), 1)

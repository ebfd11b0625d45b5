"""The loss terms of all stages (tasks 4, 6, 7, 13, 14, 16).

Those of the two-stage detector are means over what was sampled, so that weights compare. The one-stage detector samples
nothing: its terms are sums over the number of positive anchors.
"""

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


def focal_loss(
    logits: Float[Tensor, "n k"], targets: Float[Tensor, "n k"], alpha: float, gamma: float, positives: int
) -> Float[Tensor, ""]:
    """Focal loss of one-stage detectors (Lin et al., ICCV 2017, equation 5), over the number of positive anchors.

    Each class is a question of its own: cross entropy times (1 - p_t)^gamma, p_t being the probability of the truth,
    so that the many anchors on plain background, of which the network is sure, hardly count.

    Args:
        logits: of each anchor and class, background having none.
        targets: 1 for the anchor's class, else 0.
        alpha: weight of the ones; the zeros have 1 - alpha.
        gamma: how much sure answers are played down; 0: cross entropy.
        positives: anchors of objects; the sum is divided by them, or by 1 where there are none.
    """
    logits = logits.float()
    truth = torch.where(targets > 0, logits, -logits)  # the logit of p_t
    easy = torch.exp(-gamma * F.softplus(truth))  # (1 - p_t)^gamma, with a gradient however sure the network is
    weight = torch.where(targets > 0, alpha, 1 - alpha)
    return (weight * easy * F.softplus(-truth)).sum() / max(positives, 1)


def dense_delta_loss(deltas: Float[Tensor, "p 4"], targets: Float[Tensor, "p 4"]) -> Float[Tensor, ""]:
    """L1, summed over the four coordinates, over the number of positive anchors, as `focal_loss` is."""
    return F.l1_loss(deltas.float(), targets, reduction="sum") / max(len(targets), 1)


def mask_loss(logits: Float[Tensor, "r m m"], targets: Float[Tensor, "r m m"]) -> Float[Tensor, ""]:
    """Pixelwise binary cross entropy of the masks of the true classes, a mean over pixels and RoIs."""
    total = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum")
    return total / max(targets.numel(), 1)

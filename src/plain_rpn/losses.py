"""Part (a)'s ground truth and its two losses, normalized alike (tasks 3, 4, 6, 7).

The losses of a batch are

    objectness = 1/S * sum over sampled anchors of BCE(logit, label)
    rpn_regression = 1/S * sum over sampled positives of sum_{j=1..4} smooth_L1(t[j] - t*[j])

with S the number of sampled anchors of the whole batch, of both kinds: one divisor for both, so that weights of 1 and
1 weigh them equally. PyTorch's own means divide otherwise: BCE's by S, but smooth L1's by the 4P coordinates of the P
positives. The multiplication factor that task 7 asks for is therefore 4P/S; with samples 1:1 (P = S/2) it is 2.

Letters: B images, N anchors per image, n boxes of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from src.ops.boxes import encode
from src.ops.losses import delta_loss, objectness_loss
from src.ops.sampling import sample_balanced
from src.structures.loss_term import LossTerm


@dataclass(frozen=True)
class Samples:
    """The anchors of a batch that enter its losses, positives and negatives 1:1.

    Attributes:
        positive: image and anchor of each positive, [P, 2].
        negative: image and anchor of each negative, [Q, 2].
        targets: t* of each positive.
    """

    positive: Int64[Tensor, "P 2"]
    negative: Int64[Tensor, "Q 2"]
    targets: Float[Tensor, "P 4"]


def draw_samples(
    matches: Sequence[Int64[Tensor, " N"]],
    boxes: Sequence[Float[Tensor, "_ 4"]],
    anchors: Float[Tensor, "N 4"],
    count: int,
    generators: Sequence[torch.Generator],
) -> Samples:
    """Draws each image's samples for itself ("image-centric"), equally many of both kinds where both exist.

    Args:
        matches: each image's labels, from `src.ops.matching.label_anchors`.
        boxes: each image's annotated boxes, which the labels index.
        anchors: the same for all images.
        count: anchors per image, at most.
        generators: of each image, on the CPU.
    """
    positive, negative = [], []
    targets = [anchors.new_zeros((0, 4))]
    for image, (match, truth, generator) in enumerate(zip(matches, boxes, generators, strict=True)):
        drawn = sample_balanced(match, count, generator)
        positive.append(_with_image(image, drawn.positive))
        negative.append(_with_image(image, drawn.negative))
        if drawn.positives:
            targets.append(encode(truth[drawn.truth], anchors[drawn.positive]))
    return Samples(torch.cat(positive), torch.cat(negative), torch.cat(targets))


def rpn_losses(logits: Float[Tensor, "B N"], deltas: Float[Tensor, "B N 4"], samples: Samples) -> dict[str, LossTerm]:
    """`objectness` and `rpn_regression`, both over the number of sampled anchors; zero where there is none.

    Args:
        logits: objectness before the sigmoid.
        deltas: t_x t_y t_w t_h.
        samples: from `draw_samples`.
    """
    chosen = torch.cat([samples.positive, samples.negative])  # [S, 2]
    predicted = deltas[samples.positive[:, 0], samples.positive[:, 1]]  # [P, 4]
    count = len(chosen)
    objectness = objectness_loss(logits[chosen[:, 0], chosen[:, 1]], len(samples.positive))
    return {
        "objectness": LossTerm(objectness, count),
        "rpn_regression": LossTerm(delta_loss(predicted, samples.targets, count), count),
    }


def _with_image(image: int, anchors: Int64[Tensor, " k"]) -> Int64[Tensor, "k 2"]:
    return torch.stack([torch.full_like(anchors, image), anchors], dim=1)

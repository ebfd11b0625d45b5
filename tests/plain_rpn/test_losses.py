"""Part (a)'s labels and losses against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from src.ops.matching import IGNORED, NEGATIVE
from src.plain_rpn.losses import Samples, draw_samples, rpn_losses
from src.structures.loss_term import values

# Fractions of pixels, so that no rounding goes unnoticed.
CELLS = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [20, 0, 30, 20], [0, 10, 10, 20], [10, 10, 30, 30]])
ANCHORS = CELLS + torch.tensor([0.4, 0.3, 0.8, 0.6])
BOXES = [torch.tensor([[1.6, 1.3, 11.9, 12.7]]), torch.tensor([[21.2, 0.9, 31.5, 18.4], [9.7, 9.1, 30.6, 28.8]])]
MATCHES = [
    torch.tensor([0, NEGATIVE, NEGATIVE, IGNORED, NEGATIVE]),
    torch.tensor([NEGATIVE, NEGATIVE, 0, NEGATIVE, 1]),
]


def drawn(count: int = 8, seed: int = 0) -> Samples:
    return draw_samples(MATCHES, BOXES, ANCHORS, count, [torch.Generator().manual_seed(seed)] * 2)


def smooth(x: float) -> float:
    return 0.5 * x * x if abs(x) <= 1 else abs(x) - 0.5


def plain_losses(logits: Tensor, deltas: Tensor, samples: Samples) -> tuple[float, float]:
    """The formulas of tasks 4 and 6, anchor by anchor."""
    total = len(samples.positive) + len(samples.negative)
    objectness = regression = 0.0
    for image, anchor in samples.positive.tolist():
        objectness -= math.log(1 / (1 + math.exp(-float(logits[image, anchor]))))
        x1, y1, x2, y2 = BOXES[image][MATCHES[image][anchor]].tolist()
        a1, b1, a2, b2 = ANCHORS[anchor].tolist()
        target = [
            ((x1 + x2) - (a1 + a2)) / 2 / (a2 - a1),
            ((y1 + y2) - (b1 + b2)) / 2 / (b2 - b1),
            math.log((x2 - x1) / (a2 - a1)),
            math.log((y2 - y1) / (b2 - b1)),
        ]
        regression += sum(smooth(float(t) - wanted) for t, wanted in zip(deltas[image, anchor], target, strict=True))
    for image, anchor in samples.negative.tolist():
        objectness -= math.log(1 - 1 / (1 + math.exp(-float(logits[image, anchor]))))
    return objectness / total, regression / total


@pytest.mark.parametrize("seed", range(4))
def test_losses_are_the_assignment_s_formulas(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits, deltas = torch.randn(2, 5, generator=draw), 3 * torch.randn(2, 5, 4, generator=draw)
    samples = drawn(seed=seed)
    terms = values(rpn_losses(logits, deltas, samples))
    assert (float(terms["objectness"]), float(terms["rpn_regression"])) == pytest.approx(
        plain_losses(logits, deltas, samples), rel=1e-5
    )


def test_samples_are_one_to_one_and_never_ignored() -> None:
    samples = drawn()
    assert len(samples.positive) == len(samples.negative) == 3
    for image, anchor in samples.positive.tolist():
        assert MATCHES[image][anchor] >= 0
    for image, anchor in samples.negative.tolist():
        assert MATCHES[image][anchor] == NEGATIVE


def test_the_count_limits_each_image() -> None:
    samples = drawn(count=2)
    assert samples.positive[:, 0].tolist() == samples.negative[:, 0].tolist() == [0, 1]


def test_the_factor_turns_pytorch_s_means_into_these_losses() -> None:
    logits, deltas, samples = torch.randn(2, 5), torch.randn(2, 5, 4), drawn()
    terms = values(rpn_losses(logits, deltas, samples))
    chosen = deltas[samples.positive[:, 0], samples.positive[:, 1]]
    mean = F.smooth_l1_loss(chosen, samples.targets)
    positives, sampled = len(samples.positive), len(samples.positive) + len(samples.negative)
    assert 4 * positives / sampled == 2.0  # task 7's multiplication factor, with samples 1:1
    torch.testing.assert_close(4 * positives / sampled * mean, terms["rpn_regression"])


def test_only_sampled_anchors_get_gradients_and_only_positives_regress() -> None:
    logits = torch.randn(2, 5, requires_grad=True)
    deltas = torch.randn(2, 5, 4, requires_grad=True)
    samples = drawn()
    terms = values(rpn_losses(logits, deltas, samples))
    of_logits, of_deltas = torch.autograd.grad(terms["objectness"] + terms["rpn_regression"], (logits, deltas))
    used = torch.zeros(2, 5, dtype=torch.bool)
    used[tuple(torch.cat([samples.positive, samples.negative]).T)] = True
    assert torch.equal(of_logits != 0, used)
    positive = torch.zeros(2, 5, dtype=torch.bool)
    positive[tuple(samples.positive.T)] = True
    assert torch.equal((of_deltas != 0).any(dim=2), positive)


def test_images_without_objects_still_have_finite_losses() -> None:
    empty = [torch.full((5,), NEGATIVE)] * 2
    samples = draw_samples(empty, [torch.zeros(0, 4)] * 2, ANCHORS, 8, [torch.Generator()] * 2)
    assert len(samples.positive) == 0
    deltas = torch.randn(2, 5, 4, requires_grad=True)
    terms = values(rpn_losses(torch.randn(2, 5, requires_grad=True), deltas, samples))
    assert float(terms["rpn_regression"].detach()) == 0
    assert terms["objectness"].isfinite()
    (terms["objectness"] + terms["rpn_regression"]).backward()


def test_nothing_to_sample_gives_zero_not_nan() -> None:
    nothing = [torch.full((5,), IGNORED)]
    samples = draw_samples(nothing, [torch.zeros(0, 4)], ANCHORS, 8, [torch.Generator()])
    terms = values(rpn_losses(torch.randn(1, 5), torch.randn(1, 5, 4), samples))
    assert [float(value) for value in terms.values()] == [0, 0]

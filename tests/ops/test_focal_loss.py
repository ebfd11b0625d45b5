"""The focal loss against torchvision's, its definition, and numerical gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import sigmoid_focal_loss

from src.ops.losses import dense_delta_loss, focal_loss


def random_case(anchors: int, classes: int, seed: int, spread: float = 4.0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(anchors, classes, generator=draw)
    return logits, (torch.rand(anchors, classes, generator=draw) < 0.3).float()


@given(
    anchors=st.integers(0, 20),
    classes=st.integers(1, 5),
    alpha=st.floats(0.05, 1.0),
    gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0]),
    positives=st.integers(0, 9),
    seed=st.integers(0, 2**20),
)
def test_it_is_torchvision_s(anchors: int, classes: int, alpha: float, gamma: float, positives: int, seed: int) -> None:
    logits, targets = random_case(anchors, classes, seed)
    expected = sigmoid_focal_loss(logits, targets, alpha, gamma, reduction="sum") / max(positives, 1)
    torch.testing.assert_close(focal_loss(logits, targets, alpha, gamma, positives), expected, rtol=1e-4, atol=1e-6)


def test_it_is_the_paper_s_formula() -> None:
    """-alpha_t (1 - p_t)^gamma log p_t, in plain numbers."""
    logits, targets = torch.tensor([[0.0, 2.0], [-1.0, 3.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = 0.0
    for logit, truth in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        right = p if truth else 1 - p
        expected -= (0.25 if truth else 0.75) * (1 - right) ** 2 * math.log(right)
    assert focal_loss(logits, targets, 0.25, 2.0, 2).item() == pytest.approx(expected / 2, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradients_are_those_of_differences(gamma: float) -> None:
    logits, targets = random_case(4, 3, 1, spread=2.0)

    def loss(values: torch.Tensor) -> torch.Tensor:
        return focal_loss(values, targets, 0.25, gamma, 3)

    # In float32, as the loss is computed in it whatever comes in.
    assert torch.autograd.gradcheck(loss, logits.requires_grad_(), eps=1e-2, atol=2e-3, rtol=2e-2)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_surest_answers_have_finite_losses_and_gradients(gamma: float) -> None:
    logits = torch.tensor([[500.0, -500.0], [-500.0, 500.0]], requires_grad=True)
    loss = focal_loss(logits, torch.eye(2), 0.25, gamma, 2)
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()
    wrong = focal_loss(-logits, torch.eye(2), 0.25, gamma, 2)
    assert torch.isfinite(wrong)
    assert wrong > 300


def test_easy_anchors_count_less_the_higher_gamma_is() -> None:
    logits, targets = torch.full((1000, 1), -3.0), torch.zeros(1000, 1)
    values = [focal_loss(logits, targets, 0.25, gamma, 1).item() for gamma in (0.0, 1.0, 2.0)]
    assert values[0] > 10 * values[1] > 100 * values[2] > 0


def test_box_loss_is_a_sum_over_coordinates_per_positive() -> None:
    deltas, targets = torch.tensor([[0.0, 1, 2, 3], [0, 0, 0, 0]]), torch.tensor([[0.0, 0, 0, 0], [1, 1, 1, -1]])
    assert dense_delta_loss(deltas, targets).item() == 5
    assert dense_delta_loss(deltas[:0], targets[:0]).item() == 0

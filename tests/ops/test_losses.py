"""The loss terms against plain loops, and their normalization."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from src.ops.losses import class_loss, delta_loss, mask_loss, objectness_loss


def cross_entropy(logit: float, target: float) -> float:
    probability = 1 / (1 + math.exp(-logit))
    return -(target * math.log(probability) + (1 - target) * math.log(1 - probability))


def smooth(difference: float) -> float:
    return 0.5 * difference**2 if abs(difference) < 1 else abs(difference) - 0.5


def normal(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(count=st.integers(1, 20), share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_objectness_is_a_mean_of_cross_entropies(count: int, share: float, seed: int) -> None:
    logits, positives = normal(count, seed=seed), int(share * count)
    expected = sum(cross_entropy(x, float(i < positives)) for i, x in enumerate(logits.tolist())) / count
    assert float(objectness_loss(logits, positives)) == pytest.approx(expected, rel=1e-4)


@given(positives=st.integers(0, 8), negatives=st.integers(0, 20), seed=st.integers(0, 1000))
def test_regression_is_divided_by_all_samples(positives: int, negatives: int, seed: int) -> None:
    deltas, targets = normal(positives, 4, seed=seed), normal(positives, 4, seed=seed + 1)
    total = sum(smooth(a - b) for a, b in zip(deltas.flatten().tolist(), targets.flatten().tolist(), strict=True))
    found = float(delta_loss(deltas, targets, positives + negatives))
    assert found == pytest.approx(total / max(positives + negatives, 1), rel=1e-4)


def test_classifier_and_regressor_are_divided_by_the_same_number() -> None:
    """Twice the background halves what the objects contribute to both."""
    labels = torch.tensor([1, 2, 0, 0])
    sure = torch.full((4, 4), -50.0)
    sure[torch.arange(4), labels] = 50.0  # background costs nothing
    sure[0] = 0.0  # one object costs log 4
    deltas, targets = normal(2, 4), normal(2, 4, seed=1)
    more = torch.cat([labels, labels[2:].repeat(2)])
    few = class_loss(sure, labels), delta_loss(deltas, targets, len(labels))
    many = class_loss(torch.cat([sure, sure[2:].repeat(2, 1)]), more), delta_loss(deltas, targets, len(more))
    assert float(few[0]) == pytest.approx(math.log(4) / 4)
    assert [float(a / b) for a, b in zip(few, many, strict=True)] == pytest.approx([2.0, 2.0])


def test_classes_take_logits_not_probabilities() -> None:
    logits = torch.tensor([[0.0, 2.0, -1.0, 0.5], [3.0, 0.0, 0.0, 0.0]])
    rows = [[math.exp(x) for x in row] for row in logits.tolist()]
    expected = -(math.log(rows[0][2] / sum(rows[0])) + math.log(rows[1][0] / sum(rows[1]))) / 2
    assert float(class_loss(logits, torch.tensor([2, 0]))) == pytest.approx(expected, rel=1e-5)


def test_masks_are_a_mean_over_pixels_and_rois() -> None:
    logits, targets = normal(3, 4, 4), (normal(3, 4, 4, seed=1) > 0).float()
    pairs = zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True)
    expected = sum(cross_entropy(x, target) for x, target in pairs) / 48
    assert float(mask_loss(logits, targets)) == pytest.approx(expected, rel=1e-5)


def test_nothing_sampled_costs_nothing_and_is_no_nan() -> None:
    none, deltas = torch.zeros(0, requires_grad=True), torch.zeros(0, 4, requires_grad=True)
    terms = [
        objectness_loss(none, 0),
        delta_loss(deltas, torch.zeros(0, 4), 0),
        class_loss(torch.zeros(0, 4, requires_grad=True), torch.zeros(0, dtype=torch.int64)),
        mask_loss(torch.zeros(0, 28, 28, requires_grad=True), torch.zeros(0, 28, 28)),
    ]
    assert [float(term.detach()) for term in terms] == [0, 0, 0, 0]
    torch.stack(terms).sum().backward()


def test_losses_of_bf16_outputs_are_float32() -> None:
    logits = normal(6).bfloat16()
    found = objectness_loss(logits, 3)
    assert found.dtype == torch.float32
    assert torch.equal(found, objectness_loss(logits.float(), 3))
    assert delta_loss(normal(2, 4).bfloat16(), normal(2, 4), 3).dtype == torch.float32
    assert class_loss(normal(2, 4).bfloat16(), torch.tensor([0, 1])).dtype == torch.float32
    assert mask_loss(normal(2, 4, 4).bfloat16(), torch.ones(2, 4, 4)).dtype == torch.float32

"""Post-processing of detections (task 15), by hand and by plain loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from src.core.params import EvaluateParams
from src.detector.box_head import decode_scaled
from src.detector.postprocess import Candidates, postprocess
from src.ops.boxes import box_iou
from tests.detector.small import evaluate_params

PICTURE = torch.tensor([10.0, 0.0, 90.0, 60.0])


def logits_of(*rows: tuple[float, float, float, float]) -> Tensor:
    """Logits whose softmax is the rows."""
    return torch.tensor(rows).clamp(min=1e-9).log().reshape(-1, 4)


def still(count: int) -> Tensor:
    """Deltas that leave every box as it is."""
    return torch.zeros(count, 16)


def test_a_case_by_hand() -> None:
    proposals = torch.tensor([[20.0, 10, 40, 30], [21, 10, 41, 30], [60, 20, 80, 50], [20, 10, 40, 30]])
    logits = logits_of((0.1, 0.8, 0.06, 0.04), (0.3, 0.7, 0, 0), (0.96, 0, 0, 0.04), (0.1, 0, 0.3, 0.6))
    candidates = Candidates.from_head(proposals, logits, still(4))
    found = postprocess(candidates, PICTURE, evaluate_params(score_threshold=0.05))
    # The second box falls to the first of its class; two classes at the same place both stay; 0.04 is not above the
    # threshold; class 2 of the first proposal falls to the fourth's.
    assert found.labels.tolist() == [1, 3, 2]
    assert found.scores.tolist() == pytest.approx([0.8, 0.6, 0.3])
    assert torch.equal(found.boxes, proposals[[0, 3, 3]])
    assert torch.equal(found.proposals, proposals[[0, 3, 3]])
    assert found.masks.shape == (3, 0, 0)


def test_each_class_has_its_own_deltas() -> None:
    proposals = torch.tensor([[20.0, 10, 40, 30]])
    deltas = still(1)
    deltas[0, 4 * 2] = 10.0  # class 2: one width to the right, the scale being 10
    deltas[0, 0] = 99.0  # the background's are never used
    candidates = Candidates.from_head(proposals, logits_of((0, 0.5, 0.5, 0)), deltas)
    found = postprocess(candidates, PICTURE, evaluate_params())
    boxes = dict(zip(found.labels.tolist(), found.boxes.tolist(), strict=True))
    assert boxes[1] == pytest.approx([20, 10, 40, 30])
    assert boxes[2] == pytest.approx([40, 10, 60, 30])
    assert torch.equal(found.proposals, proposals.expand(2, 4))


def test_candidates_of_one_look_are_the_softmax_and_the_decoded_boxes_without_background() -> None:
    proposals = torch.tensor([[20.0, 10, 40, 30], [50, 20, 60, 50]])
    deltas = still(2)
    deltas[1, 4 * 3 + 1] = 10.0  # class 3 of the second: one height down
    deltas[:, :4] = 7.0  # the background's
    found = Candidates.from_head(proposals, logits_of((0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4)), deltas)
    torch.testing.assert_close(found.scores, torch.tensor([[0.3, 0.2, 0.1], [0.2, 0.3, 0.4]]))
    second = [[50.0, 20, 60, 50]] * 2 + [[50.0, 50, 60, 80]]
    torch.testing.assert_close(found.boxes, torch.tensor([[[20.0, 10, 40, 30]] * 3, second]))
    assert found.best_boxes().tolist() == [found.boxes[0, 0].tolist(), found.boxes[1, 2].tolist()]


def test_the_best_box_is_an_object_s_even_where_background_is_surer() -> None:
    deltas = still(1)
    deltas[0, 4 * 2] = 10.0
    found = Candidates.from_head(torch.tensor([[20.0, 10, 40, 30]]), logits_of((0.9, 0.02, 0.05, 0.03)), deltas)
    torch.testing.assert_close(found.best_boxes(), torch.tensor([[40.0, 10, 60, 30]]))


def test_no_candidates_have_no_best_boxes() -> None:
    found = Candidates.from_head(torch.zeros(0, 4), torch.zeros(0, 4), still(0))
    assert (found.scores.shape, found.boxes.shape, found.best_boxes().shape) == ((0, 3), (0, 3, 4), (0, 4))


def test_scores_and_boxes_count_and_not_what_they_were_first() -> None:
    """After several looks the logits and deltas of the first one are there for analysis alone."""
    first = torch.tensor([[20.0, 10, 40, 30]])
    scores, boxes = (
        torch.tensor([[0.1, 0.6, 0.3]]),
        torch.tensor([[[11.0, 1, 21, 11], [30, 5, 50, 25], [60, 5, 80, 25]]]),
    )
    candidates = Candidates(first, logits_of((0.05, 0.9, 0.03, 0.02)), still(1), scores, boxes)
    found = postprocess(candidates, PICTURE, evaluate_params(score_threshold=0.2))
    assert found.labels.tolist() == [2, 3]
    assert torch.equal(found.scores, scores[0, 1:])
    assert torch.equal(found.boxes, boxes[0, 1:])
    assert torch.equal(found.proposals, first.expand(2, 4))


def test_boxes_across_the_border_are_removed_or_clipped() -> None:
    proposals = torch.tensor([[20.0, 10, 40, 30], [5, 10, 40, 50], [60, 20, 95, 50], [12, 40, 30, 60]])
    logits = logits_of((0, 0.9, 0, 0.1), (0.2, 0, 0.8, 0), (0.3, 0.7, 0, 0), (0.4, 0, 0, 0.6))
    candidates = Candidates.from_head(proposals, logits, still(4))
    remove = postprocess(candidates, PICTURE, evaluate_params(border="remove", score_threshold=0.2))
    clip = postprocess(candidates, PICTURE, evaluate_params(border="clip", score_threshold=0.2))
    assert remove.boxes.tolist() == [[20, 10, 40, 30], [12, 40, 30, 60]]
    assert clip.boxes.tolist() == [[20, 10, 40, 30], [10, 10, 40, 50], [60, 20, 90, 50], [12, 40, 30, 60]]
    assert torch.equal(clip.proposals, proposals)


def test_boxes_outside_or_thin_are_dropped_even_when_clipped() -> None:
    proposals = torch.tensor([[0.0, 0, 9, 9], [20, 10, 20.5, 30], [30, 30, 40, 40]])
    candidates = Candidates.from_head(proposals, logits_of(*[(0, 0.9, 0.1, 0)] * 3), still(3))
    found = postprocess(candidates, PICTURE, evaluate_params(border="clip"))
    assert set(map(tuple, found.boxes.tolist())) == {(30.0, 30.0, 40.0, 40.0)}


def test_only_the_best_are_kept() -> None:
    proposals = torch.tensor([[12.0 + 5 * i, 10, 16 + 5 * i, 14] for i in range(10)])
    scores = [0.3 + 0.05 * i for i in range(10)]
    logits = logits_of(*[(1 - score, 0, score, 0) for score in scores])
    candidates = Candidates.from_head(proposals, logits, still(10))
    found = postprocess(candidates, PICTURE, evaluate_params(detections_per_image=3))
    assert found.scores.tolist() == pytest.approx([0.75, 0.7, 0.65])
    assert found.boxes[:, 0].tolist() == [57, 52, 47]


@pytest.mark.parametrize("threshold", [0.05, 1.0])
def test_nothing_in_and_nothing_above_the_threshold(threshold: float) -> None:
    count = 0 if threshold < 1 else 3
    proposals = torch.tensor([[20.0, 10, 40, 30]] * 3)[:count]
    candidates = Candidates.from_head(proposals, torch.zeros(count, 4), still(count))
    found = postprocess(candidates, PICTURE, evaluate_params(score_threshold=threshold))
    assert found.boxes.shape == found.proposals.shape == (0, 4)
    assert found.labels.shape == found.scores.shape == (0,)


def plain_postprocess(
    logits: Tensor, deltas: Tensor, proposals: Tensor, region: Tensor, params: EvaluateParams
) -> list[tuple[float, int, list[float]]]:
    """Task 15 in plain loops: score, label, box, best first."""
    x1, y1, x2, y2 = region.tolist()
    candidates = []
    for row, (probabilities, boxes) in enumerate(
        zip(logits.softmax(1).tolist(), decode_scaled(deltas, proposals).tolist(), strict=True)
    ):
        for label in (1, 2, 3):
            a, b, c, d = boxes[label]
            if params.border == "clip":
                a, b, c, d = max(a, x1), max(b, y1), min(c, x2), min(d, y2)
            across = a < x1 or b < y1 or c > x2 or d > y2
            if probabilities[label] > params.score_threshold and not across and c - a >= 1 and d - b >= 1:
                candidates.append((probabilities[label], label, [a, b, c, d], row))
    kept: list[tuple[float, int, list[float]]] = []
    for score, label, box, _ in sorted(candidates, key=lambda entry: -entry[0]):
        rivals = [other for _, kind, other in kept if params.class_agnostic_nms or kind == label]
        if not rivals or float(box_iou(torch.tensor([box]), torch.tensor(rivals)).max()) <= params.nms_iou:
            kept.append((score, label, box))
    return kept[: params.detections_per_image]


@given(
    count=st.integers(0, 25),
    seed=st.integers(0, 2**20),
    border=st.sampled_from(["remove", "clip"]),
    threshold=st.sampled_from([0.0, 0.2, 0.5]),
    detections=st.integers(1, 30),
    agnostic=st.booleans(),
)
def test_it_is_the_plain_loops(
    count: int, seed: int, border: str, threshold: float, detections: int, agnostic: bool
) -> None:
    draw = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=draw) * torch.tensor([100.0, 60.0])
    proposals = torch.cat([low, low + 1 + 30 * torch.rand(count, 2, generator=draw)], 1)
    logits, deltas = 2 * torch.randn(count, 4, generator=draw), torch.randn(count, 16, generator=draw)
    rules = evaluate_params(
        border=border,
        score_threshold=threshold,
        detections_per_image=detections,
        class_agnostic_nms=agnostic,
    )
    found = postprocess(Candidates.from_head(proposals, logits, deltas), PICTURE, rules)
    expected = plain_postprocess(logits, deltas, proposals, PICTURE, rules)
    assert found.labels.tolist() == [label for _, label, _ in expected]
    assert found.scores.tolist() == pytest.approx([score for score, _, _ in expected], abs=1e-6)
    torch.testing.assert_close(
        found.boxes, torch.tensor([box for *_, box in expected]).reshape(-1, 4), rtol=1e-4, atol=1e-3
    )

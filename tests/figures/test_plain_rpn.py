"""The figures of stages `anchors` and `evaluate_rpn`: they draw what they are given, the empty case too, and repeat."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from src.figures import plain_rpn as figures
from src.figures.anchors import plot_best_anchor_iou, plot_histograms
from src.figures.plain_rpn import GradientView, plot_ground_truth, plot_proposals, plot_receptive_field
from src.plain_rpn.anchor_grid import AnchorGrid
from src.plain_rpn.detector import propose
from src.plain_rpn.statistics import box_statistics, statistics_by_class
from src.sources.assignment import CLASSES
from tests.evaluation.grids import BOX, REGION, example_with, small_grid, target_of


@pytest.fixture
def grid() -> AnchorGrid:
    return small_grid()


def test_histograms_twice_and_with_an_empty_class(tmp_path):
    boxes, labels = np.array([[0, 0, 40, 50], [5, 5, 95, 60]], np.float32), np.array([1, 3])
    overall = box_statistics(boxes, 8, (106, 80))
    by_class = statistics_by_class(boxes, labels, CLASSES, 8, (106, 80))
    for name in ("a.png", "b.png"):
        plot_histograms(overall, by_class, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_best_anchor_iou_with_an_empty_class(tmp_path):
    best = {"vehicle": np.array([0.2, 0.8]), "person": np.zeros(0), "animal": np.array([0.5])}
    plot_best_anchor_iou(best, np.array([0.9, 0.6, 0.7]), tmp_path / "best_anchor_iou.png")
    plot_best_anchor_iou({name: np.zeros(0) for name in best}, np.zeros(0), tmp_path / "empty.png")
    assert (tmp_path / "best_anchor_iou.png").read_bytes() != (tmp_path / "empty.png").read_bytes()


def test_ground_truth_counts_every_anchor(grid):
    matches = grid.label(target_of(BOX), REGION)
    counts = [int(word) for word in figures.count_text(matches, grid.crossing(REGION)).split() if word.isdigit()]
    assert sum(counts) == len(grid.anchors)
    assert counts[0] == int((matches >= 0).sum()) > 0


def test_all_positives_and_a_few_negatives_are_drawn(grid, tmp_path, monkeypatch):
    drawn: dict[str, int] = {}
    monkeypatch.setattr(figures, "draw_boxes", lambda ax, boxes, color, *_: drawn.update({color: len(boxes)}))
    plot_ground_truth([example_with(BOX)], grid, tmp_path / "truth.png")
    positives = int((grid.label(target_of(BOX), REGION) >= 0).sum())
    assert drawn == {figures.POSITIVE_COLOR: positives, figures.NEGATIVE_COLOR: figures.NEGATIVES, figures.TRUTH: 1}


@pytest.mark.parametrize("images", [0, 1, 3])
def test_proposals_of_any_number_of_images(grid, tmp_path, images):
    found = propose(torch.linspace(-2, 2, 48), torch.zeros(48, 4), grid, REGION)
    examples = [example_with(BOX)] * images
    plot_proposals(examples, [found] * images, tmp_path / "proposals.png")
    plot_ground_truth(examples, grid, tmp_path / "truth.png")
    assert (tmp_path / "proposals.png").stat().st_size > 500


def test_the_field_is_centered_on_its_anchor(grid, tmp_path, monkeypatch):
    view = GradientView(example_with(BOX), grid.at(3, 4), 40, torch.rand(96, 128))
    assert view.square.tolist() == [[72 - 20, 56 - 20, 72 + 20, 56 + 20]]
    shown: list[Axes] = []
    draw = figures.draw_boxes
    monkeypatch.setattr(figures, "draw_boxes", lambda ax, *rest: (shown.append(ax), draw(ax, *rest)))
    plot_receptive_field(view, tmp_path / "field.png")
    plot_receptive_field(
        GradientView(example_with(torch.zeros(0, 4)), grid.at(0, 0), 40, torch.zeros(96, 128)), tmp_path / "zero.png"
    )
    assert len({id(ax) for ax in shown}) == 4

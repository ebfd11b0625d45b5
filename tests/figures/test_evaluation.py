"""The evaluation's figures are written, hold what they should, and survive having nothing to draw."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from src.evaluation.classifier import classifier_metrics
from src.evaluation.detection import evaluate_detections
from src.evaluation.funnel import FOUND, STEPS, count_fates
from src.evaluation.halves import summarize_halves
from src.evaluation.instances import coco_ground_truth, coco_results
from src.evaluation.unannotated import find_unannotated
from src.figures import evaluation
from src.figures.evaluation import (
    Scene,
    plot_before_after,
    plot_confusion,
    plot_detections,
    plot_funnel,
    plot_halves,
    plot_precision_recall,
    plot_unannotated,
)
from src.sources.assignment import CLASSES
from tests.evaluation.scenes import HEIGHT, WIDTH, found, truth

IMAGE = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
THING, FAR = [5, 5, 25, 30], [38, 4, 55, 20]


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Runs a plot function and gives the figure as it was on saving, after a look at the file."""

    def run(plot, *arguments):
        kept = []

        def keep(figure: Figure, path):
            figure.savefig(path)
            kept.append(figure)

        monkeypatch.setattr(evaluation, "save_figure", keep)
        path = tmp_path / "figure.png"
        plot(*arguments, path)
        assert Image.open(path).size[0] > 100
        return kept[0]

    return run


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_the_funnel_shows_what_is_left_and_what_is_lost(drawn):
    ax = drawn(plot_funnel, count_fates([["box", FOUND, FOUND], ["mask"]])).axes[0]
    rows = dict(zip([label.get_text() for label in ax.get_yticklabels()], texts(ax), strict=True))
    assert len(rows) == 1 + len(STEPS)
    assert (rows["objects"], rows["background"], rows["box"], rows["mask"]) == (
        " 4",
        " 4",
        " 3 (1 lost)",
        " 2 (1 lost)",
    )
    assert len(texts(drawn(plot_funnel, count_fates([])).axes[0])) == len(rows)


def test_confusion_shows_counts_and_row_percentages(drawn):
    metrics = classifier_metrics(torch.tensor([1, 1, 1, 1, 2]), torch.tensor([1, 1, 1, 0, 2]), CLASSES)
    ax = drawn(plot_confusion, metrics).axes[0]
    cells = dict(zip(np.ndindex(4, 4), texts(ax), strict=True))
    assert cells[1, 1] == "3\n75%"
    assert cells[1, 0] == "1\n25%"
    assert cells[0, 1] == "0\n0%"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")


def test_precision_recall_has_a_curve_for_each_class_with_objects(drawn):
    pictures = [truth([THING, FAR], [1, 2])]
    results = coco_results(pictures, [found([THING], [1], [0.9])])
    ax = drawn(plot_precision_recall, evaluate_detections(coco_ground_truth(pictures, CLASSES), results)).axes[0]
    assert [line.get_label() for line in ax.lines] == ["vehicle: AP50 1.000", "person: AP50 0.000"]


def test_halves_show_both_distributions(drawn):
    summary = summarize_halves(torch.full((4,), 0.5), torch.full((4,), 0.72))
    ax = drawn(plot_halves, summary).axes[0]
    assert [patch.get_label() for patch in ax.patches] == [
        "before the regressor, mean 0.50",
        "after the regressor, mean 0.72",
    ]
    assert ax.patches[0].get_data().values[10] == 1.0
    assert ax.patches[1].get_data().values[14] == 1.0


def styles(ax):
    return [patch.get_linestyle() for patch in ax.patches]


def test_detections_above_the_threshold_are_drawn(drawn):
    scene = Scene(IMAGE, truth([THING], [1]), found([THING, FAR], [1, 3], [0.9, 0.4]))
    ax = drawn(plot_detections, [scene] * 4, CLASSES, 0.5).axes[0]
    assert texts(ax) == ["vehicle 0.90"]
    assert ax.get_title(loc="left") == "test/000000: 1 found, 1 annotated"
    assert styles(ax).count(":") == 1


def test_before_after_uses_a_style_for_each_box(drawn):
    detections = found([THING], [1], [0.8], proposals=[[5, 5, 15, 30]])
    ax = drawn(
        plot_before_after, [Scene(IMAGE, truth([THING, FAR], [1, 2], [False, True]), detections)], CLASSES, 3
    ).axes[0]
    assert texts(ax) == ["vehicle 0.80"]
    assert sorted(styles(ax)) == sorted(["--", "-", "-", ":"])  # proposal, refined, the truth's shadow, the truth
    dashed = next(patch for patch in ax.patches if patch.get_linestyle() == "--")
    assert dashed.get_bbox().bounds == (4.5, 4.5, 10.0, 25.0)


def test_before_after_draws_the_first_detections_of_an_image(drawn):
    detections = found([THING] * 3, [1, 2, 3], [0.8, 0.7, 0.6], proposals=[THING, FAR, FAR])
    ax = drawn(plot_before_after, [Scene(IMAGE, truth([THING], [1]), detections)], CLASSES, 2).axes[0]
    assert texts(ax) == ["vehicle 0.80", "person 0.70"]
    assert styles(ax).count("--") == 2


def test_the_unannotated_object_is_drawn_alone(drawn):
    scene = Scene(IMAGE, truth([THING], [1], unlabeled=[FAR]), found([THING, FAR], [1, 3], [0.9, 0.7]))
    pick = find_unannotated([scene.truth], [scene.found], CLASSES)
    left, right = drawn(plot_unannotated, scene, pick, CLASSES).axes
    assert texts(left) == ["vehicle"]
    assert texts(right) == ["animal 0.70"]
    assert right.get_title(loc="left") == "found beyond that: animal 0.70 (a known omission)"


def test_nothing_to_draw(tmp_path):
    empty = torch.zeros(0, dtype=torch.int64)
    nothing = Scene(IMAGE, truth(), found(proposals=[]))
    path = tmp_path / "deep" / "figure.png"
    for plot, arguments in (
        (plot_confusion, (classifier_metrics(empty, empty, CLASSES),)),
        (plot_precision_recall, (evaluate_detections(coco_ground_truth([], CLASSES), []),)),
        (plot_halves, (summarize_halves(torch.zeros(0), torch.zeros(0)),)),
        (plot_detections, ([nothing], CLASSES, 0.5)),
        (plot_detections, ([], CLASSES, 0.5)),
        (plot_before_after, ([], CLASSES, 3)),
        (plot_before_after, ([nothing], CLASSES, 3)),
        (plot_unannotated, (nothing, None, CLASSES)),
    ):
        plot(*arguments, path)
        assert path.read_bytes()[:4] == b"\x89PNG"
        path.unlink()


def test_the_same_input_gives_the_same_bytes(tmp_path):
    scene = Scene(IMAGE, truth([THING], [1]), found([THING], [1], [0.9]))
    for name in "ab":
        plot_detections([scene], CLASSES, 0.5, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

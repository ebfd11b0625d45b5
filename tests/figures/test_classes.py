"""Figures of any number of classes: colors that differ and stay, names that fit, and not too much of anything."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from src.evaluation.classifier import classifier_metrics
from src.evaluation.detection import RECALLS, AveragePrecision, ClassMetrics, DetectionMetrics
from src.evaluation.instances import Instances
from src.evaluation.rle import encode_masks
from src.figures import anchors, data, evaluation
from src.figures.anchors import plot_best_anchor_iou, plot_histograms
from src.figures.classes import (
    FIRST_COLORS,
    LONGEST,
    MOST_DRAWN,
    MOST_NAMED,
    NO_CLASS,
    color_of,
    label_text,
    largest,
    line_of,
    shorten,
)
from src.figures.data import count_text, draw_samples
from src.figures.evaluation import plot_confusion, plot_precision_recall
from src.figures.predictions import draw_prediction
from src.plain_rpn.statistics import box_statistics, statistics_by_class
from src.structures.classes import Classes
from tests.factories import make_samples

COUNTS = (1, 3, 12, 40)
LARGEST_SIDE = 2000  # pixels of a figure, however many classes there are
LEAST_TEXT = 11  # pixels of CSS, in a report that fills its column
COLUMN = 58 * 16 - 16  # of a report's widest figures, without their frame


def named(count: int) -> Classes:
    """Names of all lengths, some with what matplotlib takes for more than letters."""
    odd = ("_hidden", "$x^2$", "100 % cotton {bag}", "größe", "a name that is longer than any figure has room for")
    return Classes(tuple([*odd, *(f"kind {number}" for number in range(count))][:count]))


def sizes_on_the_page(figure: Figure) -> list[float]:
    """Heights of all texts of a figure as the report shows it: as drawn, or narrowed to the column."""
    width = figure.get_figwidth() * figure.dpi
    pixels_a_point = min(width, COLUMN) / width * figure.dpi / 72
    return [pixels_a_point * text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Figure]:
    """Draws a figure without a warning, and gives it as it was on saving."""

    def run(plot: Callable[..., None], *arguments: object) -> Figure:
        kept: list[Figure] = []

        def keep(figure: Figure, path: Path) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                figure.savefig(path)
            assert min(sizes_on_the_page(figure)) >= LEAST_TEXT
            kept.append(figure)

        for module in (anchors, data, evaluation):
            monkeypatch.setattr(module, "save_figure", keep)
        path = tmp_path / "figure.png"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plot(*((path, *arguments) if plot is draw_samples else (*arguments, path)))
        with Image.open(path) as picture:
            assert 200 < max(picture.size) <= LARGEST_SIDE
        return kept[0]

    return run


def test_colors_differ_and_belong_to_the_label_alone() -> None:
    colors = [color_of(label) for label in range(1, 41)]
    assert colors[: len(FIRST_COLORS)] == list(FIRST_COLORS)
    assert colors[:3] == ["#0072b2", "#d55e00", "#009e73"]
    assert color_of(0) == color_of(-1) == NO_CLASS
    for count, least in ((12, 0.3), (40, 0.12)):
        rgb = np.array([to_rgb(color) for color in [*colors[:count], NO_CLASS, anchors.OVERALL_COLOR]])
        assert (np.abs(rgb[:, None] - rgb).sum(2) + 9 * np.eye(len(rgb))).min() > least
    assert len({color_of(label) for label in range(1, 400)}) > 390


# How colors look to eyes without one kind of cone: Machado, Oliveira and Fernandes, "A Physiologically-based Model for
# Simulation of Color Vision Deficiency", 2009, table 1 at severity 1; on linear RGB.
BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1, 1.08883])  # D65
APART = 15  # of CIE's distance of 1976, in which 2.3 is just noticed


def lab(linear: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB [n, 3]."""
    relative = linear.clip(0, 1) @ XYZ.T / WHITE
    x, y, z = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative / (3 * (6 / 29) ** 2) + 4 / 29).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_the_colors_of_eight_classes_differ_for_color_blind_readers(blindness: str) -> None:
    rgb = np.array([to_rgb(color) for color in [*map(color_of, range(1, 9)), anchors.OVERALL_COLOR]])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = lab(linear @ np.array(BLINDNESS[blindness]).T)
    distances = np.linalg.norm(seen[:, None] - seen, axis=2) + 99 * np.eye(len(seen))
    assert distances.min() > APART


def test_neighbors_differ_in_line_too() -> None:
    assert [line_of(label) for label in range(1, 6)] == ["-", "--", "-.", ":", "-"]


def test_names_are_cut_and_shown_letter_by_letter() -> None:
    assert shorten("can") == "can"
    assert len(shorten("x" * 90)) == LONGEST
    assert label_text("$5 _a") == r"\$5 _a"
    assert label_text("_a") == " _a"


def test_the_largest_classes_keep_their_order_and_labels() -> None:
    assert largest({"a": 1, "b": 5, "c": 5, "d": 9}, 2) == {"b": 2, "d": 4}
    assert largest({"a": 0}, 5) == {"a": 1}


def test_labels_in_words() -> None:
    classes = named(12)
    assert count_text([], classes) == "no objects"
    assert count_text([6, 2, 6], classes) == "1 x $x^2$, 2 x kind 0"
    assert count_text([6, 7, 8, 9, 10, 10], classes) == "1 x kind 0, 1 x kind 1, 1 x kind 2, 3 more"


@pytest.mark.parametrize("count", COUNTS)
def test_confusion(count: int, drawn: Callable[..., Figure]) -> None:
    classes = named(count)
    truth = torch.arange(classes.count).repeat(3)
    ax = drawn(plot_confusion, classifier_metrics(truth, truth.roll(1), classes)).axes[0]
    assert len(ax.get_xticklabels()) == classes.count
    assert len(ax.texts) == (classes.count**2 if count <= 12 else 0)


def test_confusion_of_a_thousand_classes(drawn: Callable[..., Figure]) -> None:
    classes = named(1000)
    ax = drawn(plot_confusion, classifier_metrics(torch.arange(1001), torch.arange(1001), classes)).axes[0]
    assert len(ax.get_xticklabels()) <= evaluation.MOST_TICKS


@pytest.mark.parametrize("count", COUNTS)
def test_precision_and_recall(count: int, drawn: Callable[..., Figure]) -> None:
    classes = named(count)
    scores = np.linspace(0.9, 0.1, count)
    by_class = {
        name: ClassMetrics(AveragePrecision(ap50=float(score)), AveragePrecision(), (float(score),) * len(RECALLS))
        for name, score in zip(classes.names, scores, strict=True)
    }
    metrics = DetectionMetrics(AveragePrecision(ap50=0.5), AveragePrecision(), by_class, {})
    ax = drawn(plot_precision_recall, metrics).axes[0]
    assert [line.get_color() for line in ax.lines] == [color_of(label) for label in classes.labels]
    assert [line.get_linestyle() for line in ax.lines] == [line_of(label) for label in classes.labels]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(legend) == min(count, MOST_NAMED)
    assert legend[0].endswith("0.900")
    assert legend[-1].endswith(f"{scores[-1]:.3f}")


@pytest.mark.parametrize("count", COUNTS)
def test_histograms_and_best_anchors(count: int, drawn: Callable[..., Figure]) -> None:
    classes = named(count)
    labels = np.concatenate([np.full(label, label) for label in classes.labels])
    boxes = np.tile(np.array([[0, 0, 40, 50]], np.float32), (len(labels), 1))
    by_class = statistics_by_class(boxes, labels, classes, 8, (106, 80))
    figure = drawn(plot_histograms, box_statistics(boxes, 8, (106, 80)), by_class)
    shown = min(count, MOST_DRAWN)
    assert len(figure.axes) == 2 * (1 + shown)
    assert figure.axes[shown].get_title(loc="left").startswith(shorten(classes.names[-1]))
    best = {name: np.full(label, 0.6) for name, label in classes.items()}
    ax = drawn(plot_best_anchor_iou, best, np.full(9, 0.8)).axes[0]
    assert len(ax.get_legend().get_texts()) == 2 + shown


@pytest.mark.parametrize("count", COUNTS)
def test_a_sheet_of_samples(count: int, drawn: Callable[..., Figure]) -> None:
    classes = named(count)
    samples = [
        replace(sample, labels=(sample.labels * 0 + 1 + 5 * number) % count + 1)
        for number, sample in enumerate(make_samples(9))
    ]
    figure = drawn(draw_samples, samples, classes, "a set")
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    seen = sorted({int(label) for sample in samples for label in sample.labels})
    wanted = list(classes.labels) if count <= MOST_NAMED else seen
    assert legend == [label_text(shorten(classes.name_of(label))) for label in wanted]


def test_a_legend_of_very_many_classes_says_how_many_it_leaves_out(drawn: Callable[..., Figure]) -> None:
    samples = [replace(sample, labels=sample.labels * 0 + 1 + n) for n, sample in enumerate(make_samples(15))]
    legend = drawn(draw_samples, samples, named(40), "a set").legends[0].get_texts()
    assert legend[-1].get_text() == "and 3 more"


def test_a_tag_has_the_name_letter_by_letter(tmp_path: Path) -> None:
    found = Instances(
        torch.tensor([[5.0, 5, 40, 40]]),
        torch.tensor([2]),
        torch.tensor([0.5]),
        encode_masks(np.ones((1, 60, 80), bool)),
    )
    paths = [tmp_path / f"{name}.png" for name in ("plain", "formula")]
    for path, name in zip(paths, ("xx^2x", "$x^2$"), strict=True):
        draw_prediction(np.zeros((60, 80, 3), np.uint8), found, Classes(("can", name)), path)
    assert paths[0].read_bytes() != paths[1].read_bytes()

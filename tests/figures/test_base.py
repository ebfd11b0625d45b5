"""The drawings that all figures share: the same bytes each time, tags inside the picture, colors by class."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from PIL import Image

from src.figures.base import (
    DPI,
    PAGE,
    SERIES,
    TERMS,
    draw_boxes,
    draw_scene,
    new_figure,
    plot_curves,
    save_figure,
    tag_text,
)
from src.figures.classes import color_of
from src.figures.tags import ink_on
from src.sources.assignment import CLASSES


def scene(height: int = 60, width: int = 80) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def drawn(path: Path) -> bytes:
    figure, axes = new_figure(1, 2, width=3, height=2)
    masks = np.zeros((2, 60, 80), bool)
    masks[0, 10:30, 10:40] = True
    draw_scene(
        axes[0, 0],
        scene(),
        [[10, 10, 40, 30], [0, 0, 80, 60]],
        [1, 3],
        [0.5, 0.25],
        masks,
        title="<b>&",
        classes=CLASSES,
    )
    plot_curves(axes[0, 1], pd.DataFrame({"iteration": range(9), "loss": range(9)}), ["loss"], smooth=3)
    save_figure(figure, path)
    return path.read_bytes()


def test_the_same_drawing_gives_the_same_bytes(tmp_path: Path) -> None:
    first = drawn(tmp_path / "a.png")
    assert first == drawn(tmp_path / "b.png")
    assert b"Software" not in first
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.png", "b.png"]  # no temporary file is left


def test_a_figure_has_the_size_of_its_panels(tmp_path: Path) -> None:
    figure, axes = new_figure(2, 3, width=2, height=1.5)
    assert axes.shape == (2, 3)
    save_figure(figure, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == (6 * DPI, 3 * DPI)


def test_a_figure_wider_than_the_page_keeps_its_pixels_and_has_larger_texts(tmp_path: Path) -> None:
    figure, _ = new_figure(1, 4, width=4.5, height=2)
    assert (figure.get_figwidth(), figure.get_figheight()) == (PAGE, 1)
    save_figure(figure, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == (18 * DPI, 2 * DPI)


def test_a_long_title_is_broken_within_its_panel() -> None:
    figure, axes = new_figure(1, 3)
    for ax in axes.flat:
        draw_scene(ax, scene(), title="val/000000123456: 1 x person, 2 x $vehicle$, 1 x bicycle and 12 more of them")
    figure.draw_without_rendering()
    for ax in axes.flat:
        (title,) = [text for text in ax.get_children() if getattr(text, "get_text", str)().startswith("val/")]
        place, panel = title.get_window_extent(), figure.bbox.width / 3
        assert "\n" in title.get_text()
        assert place.width <= panel


def test_every_loss_term_has_a_color_of_its_own() -> None:
    assert len({*TERMS.values(), SERIES[0]}) == len(TERMS) + 1


def test_boxes_have_their_class_color_and_masks_tint_the_picture(tmp_path: Path) -> None:
    figure, axes = new_figure(width=4, height=3)
    masks = torch.zeros(1, 60, 80, dtype=torch.bool)
    masks[0, 20:40, 20:60] = True
    draw_scene(axes[0, 0], scene(), torch.tensor([[20.0, 20, 60, 40]]), torch.tensor([2]), None, masks)
    (frame,) = axes[0, 0].patches
    assert frame.get_edgecolor()[:3] == pytest.approx(tuple(int(color_of(2)[i : i + 2], 16) / 255 for i in (1, 3, 5)))
    save_figure(figure, tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    red, _, blue = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2]
    assert red > blue + 20  # a gray picture, tinted orange


@pytest.mark.parametrize(
    "masks", [np.zeros((1, 60, 80), bool), np.ones((1, 60, 80), bool), np.zeros((0, 60, 80), bool)]
)
def test_empty_full_and_absent_masks(masks: np.ndarray, tmp_path: Path) -> None:
    figure, axes = new_figure()
    draw_scene(axes[0, 0], scene(), None, np.ones(len(masks), int), None, masks)
    save_figure(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0


def test_no_objects_at_all(tmp_path: Path) -> None:
    figure, axes = new_figure()
    draw_scene(axes[0, 0], scene(), np.zeros((0, 4)), np.zeros(0, int), np.zeros(0), np.zeros((0, 60, 80), bool))
    assert not axes[0, 0].patches
    save_figure(figure, tmp_path / "a.png")


def test_a_float_picture_is_clipped() -> None:
    _, axes = new_figure()
    draw_scene(axes[0, 0], np.array([[[-3.0, 0.5, 9.0]]]))
    shown = axes[0, 0].images[0].get_array()
    assert shown.min() == 0
    assert shown.max() == 1


@settings(max_examples=25)
@given(
    st.lists(st.tuples(*[st.floats(-20, 110)] * 2, *[st.floats(0.1, 90)] * 2), min_size=1, max_size=6),
    st.sampled_from(["person 0.93", "vehicle", "x"]),
)
def test_tags_never_leave_the_picture(corners: list[tuple[float, float, float, float]], text: str) -> None:
    figure, axes = new_figure(width=4, height=3)
    ax = axes[0, 0]
    draw_scene(ax, scene(90, 120))
    for x, y, width, height in corners:
        draw_boxes(ax, [[x, y, x + width, y + height]], "#0072b2", "--", 1.0, text)
    assert ax.get_xlim() == (-0.5, 119.5)
    assert ax.get_ylim() == (89.5, -0.5)
    figure.draw_without_rendering()
    picture = ax.get_window_extent()
    for tag in ax.texts:
        ground = tag.get_bbox_patch().get_window_extent()
        assert ground.x0 >= picture.x0 - 1.5
        assert ground.x1 <= picture.x1 + 1.5
        assert ground.y0 >= picture.y0 - 1.5
        assert ground.y1 <= picture.y1 + 1.5


def test_tags_of_equal_boxes_do_not_cover_each_other() -> None:
    _, axes = new_figure(width=4, height=3)
    draw_scene(axes[0, 0], scene(), [[20, 20, 60, 50]] * 3, [1, 2, 3], classes=CLASSES)
    places = {tuple(round(value, 3) for value in tag.get_position()) for tag in axes[0, 0].texts}
    assert len(places) == 3


@pytest.mark.parametrize("label", range(1, 30))
def test_a_tag_is_readable_on_the_color_of_any_class(label: int) -> None:
    def luminance(color: str) -> float:
        rgb = np.array(to_rgb(color))
        return float(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])

    low, high = sorted(luminance(color) + 0.05 for color in (color_of(label), ink_on(color_of(label))))
    assert high / low >= 4.5  # WCAG 2, success criterion 1.4.3


def test_words_of_tags() -> None:
    assert tag_text("person", 0.934) == "person 0.93"
    assert tag_text("", 0.5) == "0.50"
    assert tag_text("animal", None) == "animal"
    assert tag_text("", None) == ""


def test_curves_are_smoothed_and_named() -> None:
    _, axes = new_figure()
    frame = pd.DataFrame({"iteration": [1, 2, 3], "loss": [0.0, 3.0, 6.0]})
    plot_curves(axes[0, 0], frame, {"loss": "train"}, smooth=3)
    raw, smooth = axes[0, 0].lines
    assert list(raw.get_ydata()) == [0, 3, 6]
    assert list(smooth.get_ydata()) == [1.5, 3, 4.5]
    assert axes[0, 0].get_xlabel() == "iteration"
    assert [text.get_text() for text in axes[0, 0].get_legend().get_texts()] == ["train"]

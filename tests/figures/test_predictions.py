"""A person's picture with what was found in it, drawn reduced where it is large."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.evaluation.instances import Instances
from src.evaluation.rle import encode_masks
from src.figures import predictions
from src.figures.base import draw_scene, new_figure, save_figure
from src.figures.predictions import draw_prediction
from src.figures.view import LARGEST_SIDE, View
from src.sources.assignment import CLASSES


def found_in(height: int, width: int) -> Instances:
    """One object in the middle, and one whose mask is a single pixel."""
    masks = np.zeros((2, height, width), bool)
    masks[0, height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = True
    masks[1, 0, 0] = True
    boxes = torch.tensor([[width / 4, height / 4, 3 * width / 4, 3 * height / 4], [0, 0, 1, 1]])
    return Instances(boxes, torch.tensor([1, 2]), torch.tensor([0.9, 0.6]), encode_masks(masks))


def seen(monkeypatch: pytest.MonkeyPatch, height: int, width: int, path: Path) -> dict[str, Any]:
    """What `draw_scene` is given."""
    given: dict[str, Any] = {}

    def recording(ax: Any, image: Any, boxes: Any, labels: Any, scores: Any, masks: Any, **words: Any) -> None:
        given.update(image=image, boxes=boxes, masks=masks)
        draw_scene(ax, image, boxes, labels, scores, masks, **words)

    monkeypatch.setattr(predictions, "draw_scene", recording)
    draw_prediction(np.full((height, width, 3), 90, np.uint8), found_in(height, width), CLASSES, path)
    return given


def test_a_picture_of_usual_size_is_drawn_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = found_in(60, 80)
    given = seen(monkeypatch, 60, 80, tmp_path / "a.png")
    assert given["image"].shape == (60, 80, 3)
    assert torch.equal(given["boxes"], found.boxes)
    assert encode_masks(given["masks"]) == found.masks


@pytest.mark.parametrize(("height", "width"), [(3000, 4000), (5000, 20), (600, 9000)])
def test_a_large_one_is_drawn_reduced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, height: int, width: int) -> None:
    given = seen(monkeypatch, height, width, tmp_path / "a.png")
    view = View.of(height, width)
    rows, columns = view.rows, view.columns
    assert max(rows, columns) == LARGEST_SIDE
    assert given["image"].shape == (rows, columns, 3)
    assert given["masks"].shape == (2, rows, columns)
    middle = torch.tensor([columns / 4, rows / 4, 3 * columns / 4, 3 * rows / 4])
    torch.testing.assert_close(given["boxes"][0], middle)
    assert given["masks"][0].mean() == pytest.approx(0.25, abs=0.09)
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize("where", [np.s_[10:30, 12:40], np.s_[0:30, :], np.s_[59:, 79:], np.s_[5:6, 7:8], np.s_[:, :1]])
def test_outlines_are_those_of_the_whole_mask(where: Any, tmp_path: Path) -> None:
    """matplotlib is given the mask's surroundings only: it would keep 24 bytes a pixel and mask until the end."""
    mask, image = np.zeros((60, 80), bool), np.full((60, 80, 3), 128, np.uint8)
    mask[where] = True
    for name, whole in (("a.png", False), ("b.png", True)):
        figure, axes = new_figure()
        draw_scene(axes[0, 0], image, None, [1], None, mask[None])
        if whole:
            color = axes[0, 0].collections[-1].get_edgecolor()
            axes[0, 0].collections[-1].remove()
            axes[0, 0].contour(mask.astype(np.float32), levels=[0.5], colors=[color[0]], linewidths=1.2)
        save_figure(figure, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

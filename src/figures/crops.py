"""The figure of task 12: an image's proposals and what RoIAlign makes of each."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from src.data.prepared import Example
from src.figures.base import PAGE, SERIES, TAG_SIZE, draw_boxes, draw_scene, new_figure, save_figure
from src.ops.roi_align import roi_align

COLUMNS = 6  # crops drawn
CROP = 64  # cells a side of the picture's own crops: enough to recognize what is in them


def plot_crops(example: Example, boxes: Float[Tensor, "r 4"], pooled: Float[Tensor, "r c p p"], path: Path) -> None:
    """Draws an image with some proposals; under it each one's crop from the picture and from the feature map.

    Both crops are RoIAlign's: of the three colors on a fine grid, and of the channels (their mean activity) on
    P x P cells.
    """
    chosen = spread(boxes, COLUMNS)
    figure, _ = new_figure(1, 1, width=PAGE, height=8.2)
    figure.clf()
    grid = figure.add_gridspec(3, COLUMNS, height_ratios=[3.2, 1, 1])
    picture = example.image.permute(1, 2, 0).numpy()
    scene = figure.add_subplot(grid[0, :])
    draw_scene(scene, picture, title=f"{len(chosen)} of {len(boxes)} proposals")
    rois = torch.nn.functional.pad(boxes[chosen], (1, 0))
    summary = f"{pooled.shape[2]} x {pooled.shape[3]} cells:\nmean of {pooled.shape[1]} channels"
    crops = roi_align(example.image[None].float(), rois, CROP) / 255
    for column, row in enumerate(chosen):
        color = SERIES[column % len(SERIES)]
        draw_boxes(scene, boxes[row : row + 1], color, tag=str(column + 1), width=2)
        top, bottom = (figure.add_subplot(grid[line, column]) for line in (1, 2))
        draw_scene(top, crops[column].permute(1, 2, 0).clamp(0, 1).numpy(), title=f"{column + 1}: picture")
        bottom.imshow(pooled[row].mean(dim=0).numpy(), cmap="viridis")
        bottom.set_axis_off()
        bottom.set_title(summary, fontsize=TAG_SIZE)
    save_figure(figure, path)


def spread(boxes: Float[Tensor, "r 4"], count: int) -> list[int]:
    """Up to `count` boxes of different sizes among the best proposals: the best, then those spread over the areas."""
    best = boxes[: 10 * count]
    order = ((best[:, 2] - best[:, 0]) * (best[:, 3] - best[:, 1])).argsort(descending=True)
    places = torch.linspace(0, max(len(order) - 1, 0), min(count, len(order))).round().long()
    return order[places].tolist()

"""Training part (a)'s network: its anchor grid with ground truth, its batches, its losses (tasks 3, 4, 6, 7).

Letters: B images, N anchors of the grid, H x W the canvas in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float, Int64
from lightning_fabric import Fabric
from torch import Tensor

from src.core.params import RpnParams
from src.core.runtime import generator
from src.data.letterbox import Letterbox
from src.data.loading import Loader
from src.data.normalize import Normalization, normalize
from src.data.prepared import Example
from src.ops.anchors import cell_anchors, grid_anchors
from src.ops.matching import MatchThresholds, label_anchors
from src.plain_rpn.losses import draw_samples, rpn_losses
from src.plain_rpn.network import ANCHOR_OFFSET, STRIDE, PlainRpnNetwork, flatten_outputs, stack_images
from src.training.history import Row
from src.training.loop import Schedule

TEST_IMAGES: Final = 40  # test images whose losses are measured after each epoch
TEST_STREAM: Final = 1  # of the seed, for the draw of their anchors


@dataclass(frozen=True)
class AnchorGrid:
    """Part (a)'s anchors, the same for every image.

    Attributes:
        anchors: in the order y, x, anchor of the cell; canvas pixels.
        rows: of the grid.
        columns: of the grid.
        content: the picture on the canvas; anchors that cross its border are left out, though the canvas goes on.
        thresholds: IoUs of positives and negatives.
    """

    anchors: Float[Tensor, "N 4"]
    rows: int
    columns: int
    content: tuple[float, float, float, float]
    thresholds: MatchThresholds

    @classmethod
    def of(cls, sizes: Sequence[Sequence[float]], letterbox: Letterbox, params: RpnParams) -> AnchorGrid:
        """The grid for a frame; `sizes` are widths and heights of the anchors of one cell."""
        rows, columns = letterbox.height // STRIDE, letterbox.padded_width // STRIDE
        anchors = grid_anchors(cell_anchors(sizes), rows, columns, STRIDE, offset=ANCHOR_OFFSET)
        thresholds = MatchThresholds(high=params.fg_iou_thresh, low=params.bg_iou_thresh)
        return cls(anchors, rows, columns, letterbox.content, thresholds)

    def at(self, row: int, column: int) -> Float[Tensor, "A 4"]:
        """The anchors of one cell."""
        return self.anchors.unflatten(0, (self.rows, self.columns, -1))[row, column]

    def label(self, example: Example) -> Int64[Tensor, " N"]:
        """Task 3's ground truth; labels index `example.annotated().boxes`, crowd regions are ignored."""
        annotated = example.annotated()
        crowd = example.boxes[example.crowd]
        return label_anchors(self.anchors, annotated.boxes, self.content, self.thresholds, crowd)


@dataclass(frozen=True)
class PartA:
    """The network with all it needs to meet pictures: precision, grid, normalization."""

    network: PlainRpnNetwork
    fabric: Fabric
    grid: AnchorGrid
    normalization: Normalization

    def __call__(self, examples: Sequence[Example]) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N 4"]]:
        """Logits and deltas of a batch in the grid's order, float32 on the CPU, where losses and decoding belong."""
        with self.fabric.autocast():
            logits, deltas = flatten_outputs(*self.network(self.pixels(examples)))
        return logits.cpu(), deltas.cpu()

    def pixels(self, examples: Sequence[Example]) -> Float[Tensor, "B 3 H W"]:
        """The normalized batch on the network's device."""
        images = stack_images([example.image for example in examples]).to(self.fabric.device)
        content = torch.tensor([self.grid.content] * len(examples), device=images.device)
        return normalize(images, self.normalization, content)

    def losses(self, examples: Sequence[Example], samples: int, draw: torch.Generator) -> dict[str, Tensor]:
        """`objectness` and `regression` of a batch over the anchors drawn from `draw`."""
        matches = [self.grid.label(example) for example in examples]
        boxes = [example.annotated().boxes for example in examples]
        chosen = draw_samples(matches, boxes, self.grid.anchors, samples, draw)
        return rpn_losses(*self(examples), chosen)


def schedule(params: RpnParams, images: int) -> Schedule:
    """Length and speed of the training for a number of training images."""
    steps = math.ceil(images / params.batch_size)
    return Schedule("rpn", params.epochs, steps, params.learning_rate, params.weight_decay, params.seed)


def test_batches(prepared: Path, indices: Sequence[int]) -> Iterator[list[Example]]:
    """Test images one by one, each normalized by itself, in their own order, unmirrored and without their masks."""
    return Loader(prepared, indices, 1, seed=0, flip=False, masks=False, shuffle=False).batches(0)


@torch.no_grad()
def test_losses(part: PartA, batches: Iterator[list[Example]], params: RpnParams) -> Row:
    """Mean losses over test images, in evaluation mode; the same anchors are drawn at every call."""
    part.network.eval()
    sums = {"objectness": 0.0, "regression": 0.0}
    images = 0
    for number, batch in enumerate(batches):
        terms = part.losses(batch, params.samples, generator(params.seed, TEST_STREAM, number))
        images += len(batch)
        for name, value in terms.items():
            sums[name] += float(value) * len(batch)
    means = {name: value / max(images, 1) for name, value in sums.items()}
    weights = params.loss_weights
    total = weights.objectness * means["objectness"] + weights.regression * means["regression"]
    return {**means, "total": total}

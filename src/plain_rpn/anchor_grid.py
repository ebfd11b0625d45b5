"""Part (a)'s anchors, the same for every image, and their ground truth (tasks 2 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

from src.core.params import RpnParams
from src.data.letterbox import ImageRegion, Letterbox
from src.ops.anchors import cell_anchors, grid_anchors
from src.ops.matching import MatchThresholds, label_anchors
from src.plain_rpn.network import ANCHOR_OFFSET, STRIDE
from src.structures.target import Target


@dataclass(frozen=True)
class AnchorGrid:
    """Part (a)'s anchors; N of them, A per cell.

    Attributes:
        anchors: in the order y, x, anchor of the cell; canvas pixels.
        rows: of the grid.
        columns: of the grid.
        region: the picture on the canvas; anchors that cross its border are left out, though the canvas goes on.
        thresholds: IoUs of positives and negatives.
    """

    anchors: Float[Tensor, "N 4"]
    rows: int
    columns: int
    region: ImageRegion
    thresholds: MatchThresholds

    @classmethod
    def from_params(cls, sizes: Sequence[Sequence[float]], letterbox: Letterbox, params: RpnParams) -> AnchorGrid:
        """The grid of a canvas; `sizes` are widths and heights of the anchors of one cell."""
        rows, columns = letterbox.height // STRIDE, letterbox.padded_width // STRIDE
        anchors = grid_anchors(cell_anchors(sizes), rows, columns, STRIDE, offset=ANCHOR_OFFSET)
        thresholds = MatchThresholds(high=params.fg_iou_thresh, low=params.bg_iou_thresh)
        return cls(anchors, rows, columns, letterbox.region, thresholds)

    def at(self, row: int, column: int) -> Float[Tensor, "A 4"]:
        """The anchors of one cell."""
        return self.anchors.unflatten(0, (self.rows, self.columns, -1))[row, column]

    def label(self, target: Target) -> Int64[Tensor, " N"]:
        """Task 3's ground truth; labels index `target.boxes`, crowd regions are ignored."""
        return label_anchors(self.anchors, target.boxes, self.region, self.thresholds, target.crowd)

"""Part (a)'s anchors, the same for every image, and their ground truth (tasks 2 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

from src.core.params import RpnParams
from src.data.letterbox import Frame
from src.ops.anchors import cell_anchors, grid_anchors
from src.ops.boxes import Region, is_inside
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
        thresholds: IoUs of positives and negatives.
    """

    anchors: Float[Tensor, "N 4"]
    rows: int
    columns: int
    thresholds: MatchThresholds

    @classmethod
    def from_params(cls, sizes: Sequence[Sequence[float]], frame: Frame, params: RpnParams) -> AnchorGrid:
        """The grid of a canvas; `sizes` are widths and heights of the anchors of one cell."""
        rows, columns = frame.height // STRIDE, frame.padded_width // STRIDE
        anchors = grid_anchors(cell_anchors(sizes), rows, columns, STRIDE, offset=ANCHOR_OFFSET)
        thresholds = MatchThresholds(high=params.fg_iou_thresh, low=params.bg_iou_thresh)
        return cls(anchors, rows, columns, thresholds)

    def at(self, row: int, column: int) -> Float[Tensor, "A 4"]:
        """The anchors of one cell."""
        return self.anchors.unflatten(0, (self.rows, self.columns, -1))[row, column]

    def label(self, target: Target, region: Region) -> Int64[Tensor, " N"]:
        """Task 3's ground truth; labels index `target.boxes`, crowd regions are ignored.

        Args:
            target: of an image.
            region: x1 y1 x2 y2 of the image on the canvas; anchors that cross its border are left out, though the
                canvas goes on.
        """
        return label_anchors(self.anchors, target.boxes, region, self.thresholds, target.crowd)

    def crossing(self, region: Region) -> int:
        """How many anchors cross the border of an image that lies at `region`."""
        return int((~is_inside(self.anchors, region)).sum())

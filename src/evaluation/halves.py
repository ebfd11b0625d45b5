"""Can the regressor find an object that the RPN has cut in half? The experiment of task 15.

Each ground truth box is cut into its left, right, top and bottom half; the halves go to the box head as if the RPN
had proposed them; and the IoU with the whole object is compared before and after the regressor. Before, it is 0.5 by
construction: a half has half the area and lies inside. Letters: n boxes, m halves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

SIDES: Final = ("left", "right", "top", "bottom")
EDGES: Final = tuple(round(0.05 * step, 2) for step in range(21))  # of the histogram's 20 bins
DIGITS: Final = 5  # float32 leaves an IoU of one half a little above or below it


def halves(boxes: Float[Tensor, "n 4"]) -> Float[Tensor, "m 4"]:
    """The four halves of each box, in the order of `SIDES`: rows 4i to 4i + 3 are those of box i.

    Returns:
        [4n, 4], x1 y1 x2 y2; `boxes.repeat_interleave(4, dim=0)` are their wholes.
    """
    x1, y1, x2, y2 = boxes.unbind(1)  # each [n]
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    left, right = torch.stack([x1, y1, x, y2], 1), torch.stack([x, y1, x2, y2], 1)
    top, bottom = torch.stack([x1, y1, x2, y], 1), torch.stack([x1, y, x2, y2], 1)
    return torch.stack([left, right, top, bottom], dim=1).flatten(0, 1)  # [n, 4 halves, 4] -> [4n, 4]


@dataclass(frozen=True)
class HalvesSummary:
    """IoU with the whole object before and after the regressor; None where there are no boxes.

    Attributes:
        before: mean IoU of the halves.
        after: mean IoU of the refined halves.
        share_above_before: share of the halves with an IoU above 0.5.
        share_above_after: the same of the refined halves.
        histogram_before: halves in each of the 20 bins between `EDGES`.
        histogram_after: the same of the refined halves.
        after_by_side: mean IoU after, by the side that was left.
    """

    before: float | None
    after: float | None
    share_above_before: float | None
    share_above_after: float | None
    histogram_before: tuple[int, ...]
    histogram_after: tuple[int, ...]
    after_by_side: dict[str, float | None]

    def as_metrics(self) -> dict[str, Any]:
        """The entry `halves` of `metrics/evaluate.json`."""
        return {
            "before": self.before,
            "after": self.after,
            "share_above_0.5_before": self.share_above_before,
            "share_above_0.5_after": self.share_above_after,
            "after_by_side": dict(self.after_by_side),
            "histogram": {
                "edges": list(EDGES),
                "before": list(self.histogram_before),
                "after": list(self.histogram_after),
            },
        }


def summarize_halves(before: Float[Tensor, " m"], after: Float[Tensor, " m"]) -> HalvesSummary:
    """Means, shares above 0.5 and histograms.

    Args:
        before: IoU of each half with its whole, in the order of `halves`.
        after: IoU of each refined half with the same whole.

    Raises:
        ValueError: the two differ in length, or it is no multiple of four.
    """
    if len(before) != len(after) or len(before) % len(SIDES):
        raise ValueError(f"IoUs: expected four per box before and after, found {len(before)} and {len(after)}")
    first, second = (np.round(values.detach().cpu().double().numpy(), DIGITS) for values in (before, after))
    return HalvesSummary(
        before=_mean(first),
        after=_mean(second),
        share_above_before=_mean(first > 0.5),
        share_above_after=_mean(second > 0.5),
        histogram_before=tuple(np.histogram(first, EDGES)[0].tolist()),
        histogram_after=tuple(np.histogram(second, EDGES)[0].tolist()),
        after_by_side={side: _mean(second[i :: len(SIDES)]) for i, side in enumerate(SIDES)},
    )


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None

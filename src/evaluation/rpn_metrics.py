"""The RPN point by point: its classifier, its regressor and what its proposals cover (tasks 7, 8 and 10).

Results are sums over one image each; `+` accumulates them over a split, so that no number is a mean of means.
A value that nothing defines (no positive anchor, no object) is None, never NaN.
Letters: n anchors or boxes, p positive anchors, r proposals, g ground truth boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from src.ops.boxes import box_area, box_iou, decode, encode
from src.ops.matching import NEGATIVE

RECALL_COUNTS: Final = (10, 50, 100, 200, 1000)


def ratio(part: int | float, whole: int | float) -> float | None:
    """`part / whole`, or None where there is no whole."""
    return part / whole if whole else None


@dataclass(frozen=True)
class RpnAccuracy:
    """Labeled anchors and how many of them the proposal classifier gets right."""

    positive: int = 0
    negative: int = 0
    positive_correct: int = 0
    negative_correct: int = 0

    def __add__(self, other: RpnAccuracy) -> RpnAccuracy:
        return RpnAccuracy(
            self.positive + other.positive,
            self.negative + other.negative,
            self.positive_correct + other.positive_correct,
            self.negative_correct + other.negative_correct,
        )

    @property
    def accuracy_positive(self) -> float | None:
        """Share of the positive anchors called objects."""
        return ratio(self.positive_correct, self.positive)

    @property
    def accuracy_negative(self) -> float | None:
        """Share of the negative anchors called background."""
        return ratio(self.negative_correct, self.negative)

    @property
    def balanced_accuracy(self) -> float | None:
        """Point-wise accuracy over labeled anchors taken 1:1, as they are sampled in training: the mean of the two.

        One positive meets hundreds of negatives: without the 1:1, a network that never sees an object scores .99.
        """
        both = (self.accuracy_positive, self.accuracy_negative)
        return None if both[0] is None or both[1] is None else (both[0] + both[1]) / 2

    @property
    def accuracy(self) -> float | None:
        """Share of all labeled anchors that are right, in their natural numbers."""
        return ratio(self.positive_correct + self.negative_correct, self.positive + self.negative)

    def as_metrics(self) -> dict[str, float | int | None]:
        """The entries of `metrics/rpn.json`."""
        return {
            "balanced_accuracy": self.balanced_accuracy,
            "accuracy": self.accuracy,
            "accuracy_positive": self.accuracy_positive,
            "accuracy_negative": self.accuracy_negative,
            "labeled_positive": self.positive,
            "labeled_negative": self.negative,
        }


def rpn_accuracy(logits: Float[Tensor, " n"], matches: Int64[Tensor, " n"]) -> RpnAccuracy:
    """Counts one image's anchors; more than an even chance (a logit above 0) says object.

    Args:
        logits: objectness of each anchor, before the sigmoid.
        matches: index of the object of a positive anchor, NEGATIVE or IGNORED, as `src.ops.matching` gives.
    """
    says_object = logits > 0
    positive, negative = matches >= 0, matches == NEGATIVE
    return RpnAccuracy(
        positive=int(positive.sum()),
        negative=int(negative.sum()),
        positive_correct=int((says_object & positive).sum()),
        negative_correct=int((~says_object & negative).sum()),
    )


@dataclass(frozen=True)
class RegressionQuality:
    """Sums over positive anchors: IoU with their object after and before the regressor, smooth L1 of the deltas."""

    count: int = 0
    iou_sum: float = 0.0
    anchor_iou_sum: float = 0.0
    smooth_l1_sum: float = 0.0

    def __add__(self, other: RegressionQuality) -> RegressionQuality:
        return RegressionQuality(
            self.count + other.count,
            self.iou_sum + other.iou_sum,
            self.anchor_iou_sum + other.anchor_iou_sum,
            self.smooth_l1_sum + other.smooth_l1_sum,
        )

    @property
    def regression_iou(self) -> float | None:
        """Mean IoU of the decoded boxes with their objects."""
        return ratio(self.iou_sum, self.count)

    @property
    def anchor_iou(self) -> float | None:
        """Mean IoU of the bare anchors (or proposals) with their objects: what the regressor started from."""
        return ratio(self.anchor_iou_sum, self.count)

    @property
    def smooth_l1(self) -> float | None:
        """Mean over positives of the smooth L1 summed over the four deltas, as task 6 writes it."""
        return ratio(self.smooth_l1_sum, self.count)

    def as_metrics(self) -> dict[str, float | None]:
        """The entries of `metrics/rpn.json`."""
        return {"regression_iou": self.regression_iou, "anchor_iou": self.anchor_iou, "smooth_l1": self.smooth_l1}


def regression_quality(
    deltas: Float32[Tensor, "p 4"], anchors: Float32[Tensor, "p 4"], targets: Float32[Tensor, "p 4"]
) -> RegressionQuality:
    """Counts one image's positive anchors.

    Args:
        deltas: what the regressor says of each.
        anchors: positive anchors or proposals.
        targets: the ground truth box of each.

    Raises:
        ValueError: an anchor or a target is empty.
    """
    losses = F.smooth_l1_loss(deltas, encode(targets, anchors), reduction="sum")
    return RegressionQuality(
        count=len(anchors),
        iou_sum=float(paired_iou(decode(deltas, anchors), targets).sum()),
        anchor_iou_sum=float(paired_iou(anchors, targets).sum()),
        smooth_l1_sum=float(losses),
    )


def paired_iou(first: Float[Tensor, "n 4"], second: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """IoU of each box with the box of the same row, 0 to 1; 0 for a pair of empty boxes.

    The diagonal of `box_iou` without its [n, n] matrix.
    """
    low = torch.maximum(first[:, :2], second[:, :2])  # [n, 2]
    high = torch.minimum(first[:, 2:], second[:, 2:])  # [n, 2]
    shared = (high - low).clamp(min=0).prod(dim=1)  # [n]
    union = box_area(first) + box_area(second) - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(union))


def proposal_recall(
    proposals: Sequence[Float[Tensor, "_ 4"]],
    ground_truth: Sequence[Float[Tensor, "_ 4"]],
    counts: Sequence[int] = RECALL_COUNTS,
    iou: float = 0.5,
) -> dict[str, float | None]:
    """Share of all objects that one of an image's first k proposals covers with at least `iou`, for each k.

    Objects are counted over all images together. An object needs a proposal that fits it, not one of its own: two
    objects may share one, as in detectron2 they may not; at 0.5 few ever do.

    Args:
        proposals: [r, 4] per image, best first.
        ground_truth: [g, 4] per image, without crowd regions.
        counts: the numbers k of proposals.
        iou: the least overlap.

    Returns:
        Recall by k, written as text for json; None where there are no objects at all.

    Raises:
        ValueError: the two lists differ in length.
    """
    found = dict.fromkeys(counts, 0)
    total = 0
    for boxes, objects in zip(proposals, ground_truth, strict=True):
        total += len(objects)
        covers = box_iou(objects, boxes) >= iou  # [g, r]
        for count in counts:
            found[count] += int(covers[:, :count].any(dim=1).sum())
    return {str(count): ratio(found[count], total) for count in counts}

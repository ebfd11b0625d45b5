"""What part (a)'s network has learned, on test images: classifier, regressor, proposals (tasks 4 to 7).

Letters: N anchors of the grid, n objects of an image, k proposals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor

from src.data.batches import Batcher
from src.data.prepared import Example
from src.evaluation.rpn_metrics import (
    RegressionQuality,
    RpnAccuracy,
    proposal_recall,
    ratio,
    regression_quality,
    rpn_accuracy,
)
from src.ops.matching import IGNORED
from src.plain_rpn.anchor_grid import AnchorGrid
from src.plain_rpn.detector import PlainRpn, propose


@dataclass
class TestResult:
    """Sums and lists over the test images.

    Attributes:
        accuracy: of the proposal classifier over labeled anchors.
        regression: of the regressor over positive anchors.
        ignored: anchors inside the picture that are neither positive nor negative.
        crossing: anchors that cross the picture's border.
        proposals: each image's, best first.
        objects: each image's annotated boxes.
    """

    __test__ = False  # no test class, whatever pytest thinks of the name

    accuracy: RpnAccuracy = field(default_factory=RpnAccuracy)
    regression: RegressionQuality = field(default_factory=RegressionQuality)
    ignored: int = 0
    crossing: int = 0
    proposals: list[Float[Tensor, "_ 4"]] = field(default_factory=list)
    objects: list[Float[Tensor, "_ 4"]] = field(default_factory=list)


@torch.no_grad()
def evaluate(detector: PlainRpn, batcher: Batcher, fabric: Fabric, batches: Iterable[Sequence[Example]]) -> TestResult:
    """Runs the network, in evaluation mode, over the test images."""
    detector.eval()
    result = TestResult()
    for batch in batches:
        with fabric.autocast():
            outputs = detector.predict(batcher.images(batch).tensors)
        for example, logits, deltas in zip(batch, *outputs, strict=True):
            add_image(result, detector.grid, example, logits, deltas)
    return result


def add_image(
    result: TestResult, grid: AnchorGrid, example: Example, logits: Float[Tensor, " N"], deltas: Float[Tensor, "N 4"]
) -> None:
    """Adds one image's outputs to the result."""
    boxes, region = example.target.boxes, example.letterbox.region
    matches, crossing = grid.label(example.target, region), grid.crossing(region)
    positive = matches >= 0
    result.crossing += crossing
    result.ignored += int((matches == IGNORED).sum()) - crossing
    result.accuracy += rpn_accuracy(logits, matches)
    result.regression += regression_quality(deltas[positive], grid.anchors[positive], boxes[matches[positive]])
    result.proposals.append(propose(logits, deltas, grid, region).boxes)
    result.objects.append(boxes)


def metrics(result: TestResult, field_side: float) -> dict[str, Any]:
    """The entries of `metrics/rpn.json` that the test images give; undefined ones are None.

    Args:
        result: of the test images.
        field_side: side of the receptive field, canvas pixels.
    """
    longest = [max(box[2] - box[0], box[3] - box[1]) for boxes in result.objects for box in boxes.tolist()]
    counts = {
        "positive": result.accuracy.positive,
        "negative": result.accuracy.negative,
        "ignored": result.ignored,
        "crossing": result.crossing,
    }
    return {
        **result.accuracy.as_metrics(),
        **result.regression.as_metrics(),
        "boxes_larger_than_field": ratio(sum(side > field_side for side in longest), len(longest)),
        "recall": proposal_recall(result.proposals, result.objects),
        "anchor_counts": {name: ratio(count, len(result.objects)) for name, count in counts.items()},
    }

"""The FPN's region proposal network on test images: proposals, recall, objectness (tasks 8 and 10)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from src.core.params import BackboneParams
from src.data.prepared import Example
from src.detector.proposer import Proposer
from src.detector.sampling import AnchorRules, match_anchors
from src.evaluation.rpn_metrics import proposal_recall, ratio
from src.ops.matching import NEGATIVE
from src.structures.image_list import ImageList


@dataclass(frozen=True)
class ProposalQuality:
    """How good proposals are.

    Attributes:
        recall: share of objects covered at IoU 0.5 by the first k proposals, by k.
        objectness_positive: mean objectness of the anchors that match an object, 0..1.
        objectness_negative: the same of the background anchors.
    """

    recall: dict[str, float | None]
    objectness_positive: float | None
    objectness_negative: float | None

    def as_metrics(self) -> dict[str, Any]:
        """The entries `before` and `after` of `metrics/backbone.json`."""
        return {
            "recall": self.recall,
            "objectness_positive": self.objectness_positive,
            "objectness_negative": self.objectness_negative,
        }


@torch.no_grad()
def proposal_quality(proposer: Proposer, examples: Iterable[Example], params: BackboneParams) -> ProposalQuality:
    """Runs the images one by one."""
    found: list[Float[Tensor, "_ 4"]] = []
    truths: list[Float[Tensor, "_ 4"]] = []
    sums = torch.zeros(4, dtype=torch.float64)  # objectness and number of positives, of negatives
    for example in examples:
        images = proposer.batcher.images([example])
        features = proposer.features(images)
        found.append(proposer.propose(images, features)[0].boxes.cpu())
        truths.append(example.target.boxes)
        sums += _objectness(proposer, images, features, example, params)
    return ProposalQuality(proposal_recall(found, truths), *_ratios(sums))


def _ratios(sums: Tensor) -> Iterator[float | None]:
    positive, positives, negative, negatives = sums.tolist()
    yield ratio(positive, positives)
    yield ratio(negative, negatives)


def _objectness(
    proposer: Proposer, images: ImageList, features: Sequence[Tensor], example: Example, params: BackboneParams
) -> Float[Tensor, " 4"]:
    with proposer.fabric.autocast():
        objectness = proposer.rpn.predict(features)[0][0].sigmoid()
    grids = [(level.shape[2], level.shape[3]) for level in features]
    anchors = torch.cat(proposer.rpn.anchors(images.tensors.shape[-2:], grids))
    target = example.target.to(anchors.device)
    matches = match_anchors(anchors, target, AnchorRules.from_params(params))
    positive, negative = objectness[matches >= 0], objectness[matches == NEGATIVE]
    sums = [float(positive.sum()), len(positive), float(negative.sum()), len(negative)]
    return torch.tensor(sums, dtype=torch.float64)

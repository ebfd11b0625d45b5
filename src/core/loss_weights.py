"""The sections of `params.yaml` that weigh losses, one weight for each term that a training has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from src.core.schema import Constraint

Weight = Annotated[float, Constraint(low=0)]


@dataclass(frozen=True)
class RpnLossWeights:
    """Weights of part (a)'s two losses."""

    objectness: Weight
    rpn_regression: Weight


@dataclass(frozen=True)
class BackboneLossWeights:
    """Weights of the RPN's two losses and of the box head's two."""

    objectness: Weight
    rpn_regression: Weight
    classification: Weight
    box_regression: Weight


@dataclass(frozen=True)
class BoxHeadLossWeights:
    """Weights of the two losses that the box head's shared layers learn from, alone and beside the mask branch."""

    classification: Weight
    box_regression: Weight


@dataclass(frozen=True)
class JointLossWeights:
    """Weights of the detector's five losses."""

    objectness: Weight
    rpn_regression: Weight
    classification: Weight
    box_regression: Weight
    mask: Weight

"""The section `one_stage` of `params.yaml`: the one-stage detector of task 13 and its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from src.core.param_types import Count, Fraction, Positive, Rate, Seed, Weight
from src.core.schema import Constraint


@dataclass(frozen=True)
class OneStageLossWeights:
    """Weights of the two losses of the one-stage detector."""

    classification: Weight
    box_regression: Weight


@dataclass(frozen=True)
class OneStageParams:
    """Task 13: a dense head on the same backbone and FPN, the two-stage detector's rival (RetinaNet)."""

    epochs: Count
    batch_size: Positive
    learning_rate: Rate
    backbone_rate_factor: Annotated[float, Constraint(above=0, high=1)]
    weight_decay: Weight
    finest_level: Annotated[int, Constraint(low=2, high=5)]
    convolutions: Annotated[int, Constraint(low=0, high=8)]
    channels: Positive
    train_fpn: bool
    trainable_layers: Annotated[int, Constraint(low=0, high=5)]
    anchor_scales: Annotated[tuple[float, ...], Constraint(above=0, high=8)]
    fg_iou_thresh: Fraction
    bg_iou_thresh: Fraction
    focal_alpha: Annotated[float, Constraint(above=0, high=1)]
    focal_gamma: Annotated[float, Constraint(low=0, high=10)]
    flip: bool
    loss_weights: OneStageLossWeights
    seed: Seed

"""`params.yaml` as frozen, typed dataclasses whose annotations say which values are allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from src.core.data_params import DataParams
from src.core.one_stage_params import OneStageParams
from src.core.param_types import Color, Count, Fraction, Positive, Rate, Seed, Weight
from src.core.schema import Constraint


@dataclass(frozen=True)
class PrepareParams:
    """The 800 x 1088 canvas of task 9 and its normalization."""

    height: Annotated[int, Constraint(low=64)]
    width: Annotated[int, Constraint(low=64)]
    padded_width: Annotated[int, Constraint(low=64)]
    mean: Color
    std: Annotated[tuple[float, ...], Constraint(above=0, high=1, length=3)]


@dataclass(frozen=True)
class AnchorsParams:
    """Histograms of scale and aspect ratio, and how many anchors their modes give."""

    bins: Annotated[int, Constraint(low=4, high=200)]
    count: Annotated[int, Constraint(low=1, high=9)]


@dataclass(frozen=True)
class RpnLossWeights:
    """Weights of part (a)'s two losses."""

    objectness: Weight
    rpn_regression: Weight


@dataclass(frozen=True)
class RpnParams:
    """Part (a): the five-convolution network and its training."""

    epochs: Positive
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    fg_iou_thresh: Fraction
    bg_iou_thresh: Fraction
    batch_size_per_image: Annotated[int, Constraint(low=2)]
    flip: bool
    loss_weights: RpnLossWeights
    seed: Seed


@dataclass(frozen=True)
class AugmentParams:
    """How training pictures are varied beyond mirroring, where the backbone or the whole detector learns."""

    scale_jitter: Annotated[float, Constraint(low=0, high=9)]
    color_jitter: Fraction
    copy_paste: Fraction


@dataclass(frozen=True)
class BackboneLossWeights:
    """Weights of the RPN's two losses and of the box head's two."""

    objectness: Weight
    rpn_regression: Weight
    classification: Weight
    box_regression: Weight


@dataclass(frozen=True)
class BackboneParams:
    """Part (b): pretrained backbone, FPN and RPN, and their fine-tuning."""

    name: Annotated[str, Constraint(choices=("efficientnet_lite0", "efficientnet_lite2", "resnet50"))]
    weights: str
    trainable_layers: Annotated[int, Constraint(low=0, high=5)]
    epochs: Count
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    anchor_sizes: Annotated[tuple[float, ...], Constraint(above=0, length=5)]
    anchor_ratios: Annotated[tuple[float, ...], Constraint(above=0)]
    fg_iou_thresh: Fraction
    bg_iou_thresh: Fraction
    rpn_batch_size_per_image: Annotated[int, Constraint(low=2)]
    box_batch_size_per_image: Count
    flip: bool
    loss_weights: BackboneLossWeights
    seed: Seed


@dataclass(frozen=True)
class ProposalsParams:
    """What the RPN hands on."""

    pre_nms_top_n: Positive
    nms_iou: Fraction
    post_nms_top_n: Positive
    min_size: Weight


@dataclass(frozen=True)
class RoisParams:
    """Which RoIs are objects, and their largest share in a loss (task 14)."""

    fg_iou_thresh: Fraction
    positive_fraction: Fraction


@dataclass(frozen=True)
class FeaturesParams:
    """What is cached for the heads."""

    proposals: Positive
    mask_rois: Positive
    flip: bool


@dataclass(frozen=True)
class BoxHeadLossWeights:
    """Weights of the two losses that the box head's shared layers learn from, alone and beside the mask branch."""

    classification: Weight
    box_regression: Weight


@dataclass(frozen=True)
class BoxHeadParams:
    """Task 14: classifier and regressor."""

    representation_size: Positive
    dropout: Annotated[float, Constraint(low=0, high=0.95)]
    epochs: Count
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    batch_size_per_image: Positive
    loss_weights: BoxHeadLossWeights
    seed: Seed


@dataclass(frozen=True)
class MaskHeadParams:
    """Task 16: the mask branch."""

    batch_size_per_image: Positive
    channels: Positive
    epochs: Count
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    seed: Seed


@dataclass(frozen=True)
class JointLossWeights:
    """Weights of the detector's five losses."""

    objectness: Weight
    rpn_regression: Weight
    classification: Weight
    box_regression: Weight
    mask: Weight


@dataclass(frozen=True)
class JointParams:
    """Tasks 11 and 16: all parts trained on, together or in turns."""

    scheme: Annotated[str, Constraint(choices=("none", "end_to_end", "alternating"))]
    rounds: Positive
    epochs: Positive
    trainable_layers: Annotated[int, Constraint(low=0, high=5)]
    batch_size: Positive
    learning_rate: Rate
    backbone_rate_factor: Annotated[float, Constraint(above=0, high=1)]
    weight_decay: Weight
    box_batch_size_per_image: Positive
    mask_batch_size_per_image: Positive
    finest_level: Annotated[int, Constraint(low=2, high=5)]
    flip: bool
    keep: Annotated[str, Constraint(choices=("last", "best"))]
    patience: Count
    gradient_interval: Count
    loss_weights: JointLossWeights
    seed: Seed


@dataclass(frozen=True)
class EvaluateParams:
    """Task 15: post-processing, and which split it is measured on."""

    split: Annotated[str, Constraint(choices=("test", "validation"))]
    score_threshold: Fraction
    nms_iou: Fraction
    class_agnostic_nms: bool
    detections_per_image: Positive
    border: Annotated[str, Constraint(choices=("remove", "clip"))]
    mask_threshold: Fraction
    box_passes: Annotated[int, Constraint(low=1, high=10)]
    objectness_power: Annotated[float, Constraint(low=0, high=4)]


@dataclass(frozen=True)
class PredictParams:
    """Task 18: what is drawn on one's own pictures, and written for a labeling tool."""

    score_threshold: Fraction
    tile: Count
    tile_overlap: Annotated[float, Constraint(low=0, high=0.75)]
    frame_seconds: Rate
    export: Annotated[str, Constraint(choices=("none", "coco", "label_studio"))]


@dataclass(frozen=True)
class ReportParams:
    """The report's fixed set of test images, and the settings it names."""

    images: Positive
    settings: str


@dataclass(frozen=True)
class RuntimeParams:
    """Precision, threads and processes."""

    precision: Annotated[str, Constraint(choices=("auto", "bf16", "float32"))]
    threads: Count
    devices: Annotated[int | str, Constraint(low=1, words=("auto",))]
    nodes: Positive


@dataclass(frozen=True)
class Params:
    """The whole of `params.yaml`."""

    data: DataParams
    prepare: PrepareParams
    anchors: AnchorsParams
    rpn: RpnParams
    augment: AugmentParams
    backbone: BackboneParams
    proposals: ProposalsParams
    rois: RoisParams
    features: FeaturesParams
    box_head: BoxHeadParams
    mask_head: MaskHeadParams
    joint: JointParams
    one_stage: OneStageParams
    evaluate: EvaluateParams
    predict: PredictParams
    report: ReportParams
    runtime: RuntimeParams

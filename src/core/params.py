"""`params.yaml` as frozen, typed, validated dataclasses: the only place that reads the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ruamel.yaml import YAML

from src.core.errors import InputError, invalid
from src.core.schema import Constraint, build
from src.core.validation import check_contradictions

Count = Annotated[int, Constraint(low=0)]
Positive = Annotated[int, Constraint(low=1)]
Fraction = Annotated[float, Constraint(low=0, high=1)]
Weight = Annotated[float, Constraint(low=0)]
Rate = Annotated[float, Constraint(above=0)]
Seed = Annotated[int, Constraint(low=0, high=2**31 - 1)]
Color = Annotated[tuple[float, ...], Constraint(low=0, high=1, length=3)]


@dataclass(frozen=True)
class EmojiParams:
    """Scenes composed from vector art."""

    train: Positive
    test: Positive
    unannotated: Fraction
    seed: Seed


@dataclass(frozen=True)
class DataParams:
    """Which pictures, and how they are split."""

    source: Annotated[str, Constraint(choices=("emoji", "course", "coco"))]
    root: str
    limit: Count
    train_fraction: Annotated[float, Constraint(low=0.01, high=0.99)]
    split_seed: Seed
    emoji: EmojiParams


@dataclass(frozen=True)
class PrepareParams:
    """The 800 x 1088 frame of task 9 and its normalization."""

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
    regression: Weight


@dataclass(frozen=True)
class RpnParams:
    """Part (a): the five-convolution network and its training."""

    epochs: Positive
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    fg_iou_thresh: Fraction
    bg_iou_thresh: Fraction
    samples: Annotated[int, Constraint(low=2)]
    flip: bool
    loss_weights: RpnLossWeights
    seed: Seed


@dataclass(frozen=True)
class BackboneLossWeights:
    """Weights of the RPN's two losses and of the auxiliary head's two."""

    objectness: Weight
    regression: Weight
    classification: Weight
    refinement: Weight


@dataclass(frozen=True)
class BackboneParams:
    """Part (b): pretrained backbone, FPN and RPN, and their fine-tuning."""

    name: Annotated[str, Constraint(choices=("efficientnet_lite0", "resnet50"))]
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
    samples: Annotated[int, Constraint(low=2)]
    rois: Count
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
class FeaturesParams:
    """What is cached for the heads."""

    proposals: Positive
    mask_rois: Positive
    flip: bool


@dataclass(frozen=True)
class BoxHeadLossWeights:
    """Weights of the box head's two losses."""

    classification: Weight
    regression: Weight


@dataclass(frozen=True)
class BoxHeadParams:
    """Task 14: classifier and regressor."""

    hidden: Positive
    dropout: Annotated[float, Constraint(low=0, high=0.95)]
    epochs: Positive
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    rois: Positive
    positive_fraction: Fraction
    fg_iou_thresh: Fraction
    loss_weights: BoxHeadLossWeights
    seed: Seed


@dataclass(frozen=True)
class MaskHeadLossWeights:
    """Weights of the three losses of joint training."""

    classification: Weight
    regression: Weight
    mask: Weight


@dataclass(frozen=True)
class MaskHeadParams:
    """Task 16: the mask branch."""

    rois: Positive
    channels: Positive
    epochs: Positive
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    loss_weights: MaskHeadLossWeights
    seed: Seed


@dataclass(frozen=True)
class EvaluateParams:
    """Task 15: post-processing."""

    score_threshold: Fraction
    nms_iou: Fraction
    detections: Positive
    border: Annotated[str, Constraint(choices=("remove", "clip"))]
    mask_threshold: Fraction


@dataclass(frozen=True)
class PredictParams:
    """Task 18: what is drawn on one's own pictures."""

    score_threshold: Fraction


@dataclass(frozen=True)
class ReportParams:
    """The report's fixed set of test images."""

    images: Positive


@dataclass(frozen=True)
class RuntimeParams:
    """Precision and threads."""

    precision: Annotated[str, Constraint(choices=("auto", "bf16", "float32"))]
    threads: Count


@dataclass(frozen=True)
class Params:
    """The whole of `params.yaml`."""

    data: DataParams
    prepare: PrepareParams
    anchors: AnchorsParams
    rpn: RpnParams
    backbone: BackboneParams
    proposals: ProposalsParams
    features: FeaturesParams
    box_head: BoxHeadParams
    mask_head: MaskHeadParams
    evaluate: EvaluateParams
    predict: PredictParams
    report: ReportParams
    runtime: RuntimeParams


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Reads and checks `params.yaml` (YAML 1.2, as DVC writes it: `1e-06` is a number).

    Raises:
        InputError: the file is missing or not YAML; a key is unknown or missing; a value has the wrong type, is out
            of range, or contradicts another.
    """
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run from the project's root") from None
    except Exception as error:  # noqa: BLE001 - a broken file may make the YAML reader raise anything
        raise invalid(path, "readable YAML", str(error)) from None
    params: Params = build(Params, tree, "")
    check_contradictions(params)
    return params

"""`params.yaml` as frozen, typed, validated dataclasses: the only place that reads the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ruamel.yaml import YAML

from src.core.errors import InputError, invalid
from src.core.schema import Rule, build
from src.core.validation import check_contradictions

Count = Annotated[int, Rule(low=0)]
Positive = Annotated[int, Rule(low=1)]
Fraction = Annotated[float, Rule(low=0, high=1)]
Weight = Annotated[float, Rule(low=0)]
Rate = Annotated[float, Rule(above=0)]
Seed = Annotated[int, Rule(low=0, high=2**31 - 1)]
Colour = Annotated[tuple[float, ...], Rule(low=0, high=1, length=3)]


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

    source: Annotated[str, Rule(choices=("emoji", "course", "coco"))]
    root: str
    limit: Count
    train_fraction: Annotated[float, Rule(low=0.01, high=0.99)]
    split_seed: Seed
    emoji: EmojiParams


@dataclass(frozen=True)
class PrepareParams:
    """The 800 x 1088 frame of task 9 and its normalisation."""

    height: Annotated[int, Rule(low=64)]
    width: Annotated[int, Rule(low=64)]
    padded_width: Annotated[int, Rule(low=64)]
    mean: Colour
    std: Annotated[tuple[float, ...], Rule(above=0, high=1, length=3)]


@dataclass(frozen=True)
class AnchorsParams:
    """Histograms of scale and aspect ratio, and how many anchors their modes give."""

    bins: Annotated[int, Rule(low=4, high=200)]
    count: Annotated[int, Rule(low=1, high=9)]


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
    positive_iou: Fraction
    negative_iou: Fraction
    samples: Annotated[int, Rule(low=2)]
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

    name: Annotated[str, Rule(choices=("efficientnet_lite0", "resnet50"))]
    weights: str
    trainable_layers: Annotated[int, Rule(low=0, high=5)]
    epochs: Count
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight
    anchor_sizes: Annotated[tuple[float, ...], Rule(above=0, length=5)]
    anchor_ratios: Annotated[tuple[float, ...], Rule(above=0)]
    positive_iou: Fraction
    negative_iou: Fraction
    samples: Annotated[int, Rule(low=2)]
    rois: Count
    flip: bool
    loss_weights: BackboneLossWeights
    seed: Seed


@dataclass(frozen=True)
class ProposalsParams:
    """What the RPN hands on."""

    before_nms: Positive
    nms_iou: Fraction
    after_nms: Positive
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
    dropout: Annotated[float, Rule(low=0, high=0.95)]
    epochs: Positive
    batch_images: Positive
    learning_rate: Rate
    weight_decay: Weight
    rois: Positive
    positive_fraction: Fraction
    foreground_iou: Fraction
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
    batch_images: Positive
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
    border: Annotated[str, Rule(choices=("remove", "clip"))]
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

    precision: Annotated[str, Rule(choices=("auto", "bf16", "float32"))]
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

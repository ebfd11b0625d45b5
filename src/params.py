"""`params.yaml` as frozen, typed, validated dataclasses: the only place that reads the file.

A field's annotation gives its type, its `Rule` the allowed values. An unknown key is an error that names the
nearest known one; so are a missing key, a wrong type and a value out of range.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from src.errors import InputError, invalid


@dataclass(frozen=True)
class Rule:
    """Allowed values of a field: a closed range, an open lower bound, a choice, a length for lists."""

    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    choices: tuple[str, ...] = ()
    length: int | None = None

    def complaint(self, value: Any) -> str | None:
        """What was expected, if `value` breaks the rule; else None."""
        if self.length is not None and len(value) != self.length:
            return f"{self.length} values"
        if isinstance(value, tuple):
            return next((text for item in value if (text := self._item(item))), None)
        return self._item(value)

    def _item(self, value: Any) -> str | None:
        if self.choices and value not in self.choices:
            return "one of " + ", ".join(self.choices)
        if isinstance(value, str | bool):
            return None
        if not math.isfinite(value) or not self.low <= value <= self.high:
            return f"a number in [{self.low:g}, {self.high:g}]"
        return None if value > self.above else f"a number above {self.above:g}"


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
    except (YAMLError, ValueError, OSError) as error:
        raise invalid(path, "readable YAML", str(error)) from None
    params: Params = _build(Params, tree, "")
    _check_contradictions(params)
    return params


def _build(kind: type, tree: Any, where: str) -> Any:
    """Builds the dataclass `kind` from a mapping; `where` is the dotted path of the section."""
    if not isinstance(tree, Mapping):
        raise invalid("params.yaml", f"a section under '{where or 'the top level'}'", type(tree).__name__)
    hints = typing.get_type_hints(kind, include_extras=True)
    for key in tree:
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1, cutoff=0)
            raise InputError(f"params.yaml: unknown key '{_join(where, key)}'; did you mean '{_join(where, near[0])}'?")
    for key in hints:
        if key not in tree:
            raise InputError(f"params.yaml: missing key '{_join(where, key)}'")
    return kind(**{key: _value(hints[key], tree[key], _join(where, key)) for key in hints})


def _value(hint: Any, value: Any, where: str) -> Any:
    """Checks one value against its annotation and rule."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, where)
    base, rules = (hint.__origin__, hint.__metadata__) if hasattr(hint, "__metadata__") else (hint, ())
    value = _convert(base, value, where)
    for rule in rules:
        if expected := rule.complaint(value):
            raise invalid("params.yaml", f"{expected} for '{where}'", repr(value))
    return value


def _convert(base: Any, value: Any, where: str) -> Any:
    """Gives `value` the type `base`: int where whole, float from int, tuple from a non-empty list."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and not 2**63 <= abs(value) < math.inf
    if base is float and number:
        return float(value)
    if base is int and number and float(value).is_integer():
        return int(value)
    if base in (str, bool) and isinstance(value, base):
        return value
    if typing.get_origin(base) is tuple and isinstance(value, list) and value:
        return tuple(_convert(float, item, where) for item in value)
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    raise invalid("params.yaml", f"{names.get(base, 'a list of numbers')} for '{where}'", repr(value))


def _check_contradictions(params: Params) -> None:
    """Refuses values that are fine alone but not together."""
    frame = params.prepare
    for key, size in (("height", frame.height), ("padded_width", frame.padded_width)):
        if size % 32:
            raise invalid("params.yaml", f"a multiple of 32 for 'prepare.{key}' (the backbone's stride)", size)
    if frame.width > frame.padded_width or (frame.padded_width - frame.width) % 2:
        text = "'prepare.padded_width' at least 'prepare.width' and an even number above it"
        raise invalid("params.yaml", text, f"{frame.padded_width} and {frame.width}")
    for name, section in (("rpn", params.rpn), ("backbone", params.backbone)):
        if section.negative_iou > section.positive_iou:
            found = f"{section.negative_iou} and {section.positive_iou}"
            raise invalid("params.yaml", f"'{name}.negative_iou' at most '{name}.positive_iou'", found)
    if params.features.proposals > params.proposals.after_nms:
        found = f"{params.features.proposals} and {params.proposals.after_nms}"
        raise invalid("params.yaml", "'features.proposals' at most 'proposals.after_nms'", found)
    if params.data.source != "emoji" and not params.data.root:
        text = f"a folder for 'data.root' with data.source={params.data.source}"
        raise invalid("params.yaml", text, "an empty text")


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)

"""The section `data` of `params.yaml`: which pictures, from where, and how strictly they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

from src.core.param_types import Count, Fraction, Positive, Seed
from src.core.schema import Constraint, Groups

SUPERCATEGORIES: Final = "supercategories"
CATEGORIES: Final = "categories"
ClassesParam: TypeAlias = str | Groups  # one of the two, or names of classes with those of their categories


@dataclass(frozen=True)
class EmojiParams:
    """Scenes composed from vector art."""

    train: Positive
    test: Positive
    unannotated: Fraction
    seed: Seed


@dataclass(frozen=True)
class CocoParams:
    """Where the files of a set in COCO's format are, and which classes it has."""

    annotations: str
    images: str
    store: str
    classes: ClassesParam


@dataclass(frozen=True)
class DataParams:
    """Which pictures, how they are split, and how much of a set may be wrong."""

    source: Annotated[str, Constraint(choices=("emoji", "course", "coco"))]
    root: str
    limit: Count
    train_fraction: Annotated[float, Constraint(low=0.01, high=0.99)]
    split_seed: Seed
    validation_fraction: Annotated[float, Constraint(low=0, high=0.9)]
    objects_per_image: Positive
    strict: bool
    largest_left_out: Fraction
    boxes_as_masks: bool
    keep_empty: bool
    coco: CocoParams
    emoji: EmojiParams

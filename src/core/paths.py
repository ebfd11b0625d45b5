"""Every file and folder that stages exchange, relative to the project's root. dvc.yaml names the same."""

from __future__ import annotations

from pathlib import Path
from typing import Final

# Data
SOURCE: Final = Path("data/source.json")  # where the pictures come from
DATASET: Final = Path("data/dataset.h5")  # pictures and objects as the source has them
LEFT_OUT: Final = Path("data/left_out.csv")  # what of a set in COCO's format is not in it, each with its reason
PREPARED: Final = Path("data/prepared.h5")  # the same on the canvas
ANCHORS: Final = Path("data/anchors.json")  # part (a)'s anchors
FEATURES: Final = Path("data/features.h5")  # proposals and pooled features for the heads
ONE_STAGE_DETECTIONS: Final = Path("data/one_stage.jsonl")  # the one-stage detector's on the same images
ONE_STAGE_PREDICTIONS: Final = Path("data/one_stage_predictions.json")  # the same as COCO results
DETECTIONS: Final = Path("data/detections.jsonl")  # the detector on the test split, its second stage taken apart
PREDICTIONS: Final = Path("data/predictions.json")  # the detections as COCO results
GROUND_TRUTH: Final = Path("data/ground_truth.json")  # the test split as COCO instances
OWN_DETECTIONS: Final = Path("data/pictures.json")  # the detector on a person's own pictures
OWN_EXPORT: Final = Path("data/export.json")  # the same for a labeling tool; an empty list where none is named
OWN_PICTURES: Final = Path("pictures")

# Weights
PLAIN_RPN: Final = Path("models/rpn.pt")
BACKBONE: Final = Path("models/backbone.pt")
BOX_HEAD: Final = Path("models/box_head.pt")
MASK_HEAD: Final = Path("models/mask_head.pt")  # both heads, as their training on cached features left them
DETECTOR: Final = Path("models/detector.pt")  # every part, as `detect`, `predict` and others load it
ONE_STAGE: Final = Path("models/one_stage.pt")  # the two-stage detector's rival, with its backbone

# Results
SUMMARY: Final = Path("metrics/summary.json")
COMPARISON: Final = Path("metrics/detectors.json")  # both detectors side by side
EXPLORER: Final = Path("plots/evaluate/explorer.json")  # the test images, for the report's explorer
OWN_EXPLORER: Final = Path("plots/own_pictures.json")  # a person's own pictures, likewise
PROVENANCE: Final = Path("metrics/provenance.json")  # what the summary was measured on
REPORT: Final = Path("report/index.html")
SINGLE_PREDICTIONS: Final = Path("predictions")  # of `make predict`, tracked by no stage
SINGLE_EXPORT: Final = Path("predictions/export.json")


def metrics(stage: str) -> Path:
    """The numbers that a stage measured."""
    return Path("metrics") / f"{stage}.json"


def plots(stage: str) -> Path:
    """The folder of a stage's figures and curves."""
    return Path("plots") / stage

"""A complete, synthetic set of what the stages write, in the contract's form."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from src.core.params import Params
from src.core.params_file import load_params
from src.evaluation.funnel import STEPS
from src.evaluation.headline import headline_numbers, provenance
from src.reporting.run_results import RunResults
from src.structures.classes import Classes
from tests.reporting.explorer_files import write_explorer

CLASSES = ("vehicle", "person", "animal")
SIZES = {"small": None, "medium": 0.312, "large": 0.533}  # AP; no small objects
CONDITIONS = {
    "device": "CPU (x86_64)",
    "precision": "bf16",
    "convolutions": "PyTorch",
    "threads": 2,
    "python": "3.11.9",
    "torch": "2.14.1",
}
FIGURES = (
    *("ingest/samples", "prepare/two_objects", "anchors/histograms", "anchors/best_anchor_iou"),
    *("evaluate_rpn/ground_truth", "evaluate_rpn/proposals", "evaluate_rpn/receptive_field"),
    *("evaluate_backbone/proposals", "evaluate_backbone/before_after", "evaluate_backbone/crops"),
    *("evaluate/detections", "evaluate/before_after", "evaluate/halves", "evaluate/unannotated"),
    *("evaluate/confusion", "evaluate/funnel", "evaluate/detectors", "predict/street"),
)
LOSSES = ("objectness", "rpn_regression", "classification", "box_regression", "mask")  # of joint training
RECALL = {"10": 0.41, "50": 0.66, "100": 0.74, "200": 0.83, "1000": 0.93}
FIRST_RECALL = {"10": 0.02, "50": 0.06, "100": 0.10, "200": 0.17, "1000": 0.42}

ERRORS = ("correct", "duplicate", "classification", "localization", "both", "background", "missed", "ignored")


def gap(estimate: float, low: float, high: float) -> dict[str, float | int]:
    """A difference with its interval."""
    return {"estimate": estimate, "low": low, "high": high, "resamples": 1000}


METRICS: dict[str, Any] = {
    "ingest": {
        "source": "emoji",
        "images": 320,
        "objects": 480,
        "train_images": 240,
        "test_images": 80,
        "validation_images": 0,
        "split": {name: {"train": 120, "test": 40, "validation": 0} for name in CLASSES},
        "objects_per_image": {"0": 0, "1": 160, "2": 160},
        "unannotated_objects": 48,
        "crowd_objects": 0,
    },
    "prepare": {
        "height": 800,
        "width": 1066,
        "padded_width": 1088,
        "left": 11,
        "right": 11,
        "scale_x": 2.665,
        "scale_y": 2.6667,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "minimum": -2.117,
        "maximum": 2.64,
        "example": {"name": "test/000003", "labels": [1, 3], "boxes": [[20, 30, 400, 500], [500, 200, 900, 700]]},
    },
    "anchors": {
        "objects": 360,
        "scale_mode": 230.9,
        "ratio_mode": 1.09,
        "scale_median": 301.5,
        "by_class": {
            "vehicle": {"objects": 120, "scale_mode": 308.0, "ratio_mode": 0.65},
            "person": {"objects": 120, "scale_mode": 192.4, "ratio_mode": 2.18},
            "animal": {"objects": 120, "scale_mode": 230.9, "ratio_mode": 0.92},
        },
        "anchors": [[221.2, 241.1]],
        "best_anchor_iou": {
            "mean": 0.571,
            "above_0.5": 0.66,
            "above_0.7": 0.21,
            "by_class": {name: {"mean": 0.5 + 0.05 * i, "above_0.5": 0.6} for i, name in enumerate(CLASSES)},
        },
        "best_anchor_iou_fpn": {"mean": 0.744, "above_0.5": 0.99, "above_0.7": 0.68},
        "larger_than_anchor": 0.63,
        "mode_counts": {"scale": 48, "ratio": 61},
    },
    "rpn": {
        "layers": [
            {
                "layer": f"backbone.{name}",
                "kernel": 5 if name.startswith("conv") else 2,
                "stride": 1 if name.startswith("conv") else 2,
                "output": shape,
                "parameters": parameters,
                "receptive_field": field,
            }
            for name, shape, parameters, field in (
                ("convolution1", [16, 800, 1088], 1232, 5),
                ("pooling1", [16, 400, 544], 0, 6),
                ("convolution2", [32, 400, 544], 12864, 14),
                ("pooling2", [32, 200, 272], 0, 16),
                ("convolution3", [64, 200, 272], 51328, 32),
                ("pooling3", [64, 100, 136], 0, 36),
                ("convolution4", [128, 100, 136], 205056, 68),
                ("pooling4", [128, 50, 68], 0, 76),
                ("convolution5", [256, 50, 68], 819712, 140),
            )
        ]
        + [
            {
                "layer": "intermediate",
                "kernel": 3,
                "stride": 1,
                "output": [256, 50, 68],
                "parameters": 590336,
                "receptive_field": 172,
            }
        ],
        "parameters": 1681813,
        "balanced_accuracy": 0.912,
        "accuracy": 0.939,
        "accuracy_positive": 0.884,
        "accuracy_negative": 0.940,
        "labeled_positive": 310,
        "labeled_negative": 151230,
        "regression_iou": 0.742,
        "anchor_iou": 0.601,
        "smooth_l1": 0.231,
        "receptive_field": 172,
        "receptive_field_measured": [172, 172],
        "boxes_larger_than_field": 0.91,
        "recall": RECALL,
        "anchor_counts": {"positive": 3.9, "negative": 1890.4, "ignored": 210.0, "crossing": 1295.7},
        "conditions": CONDITIONS,
    },
    "backbone": {
        "backbone": "efficientnet_lite0",
        "weights": "imagenet",
        "normalization": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "outputs": [
            {"name": name, "shape": [256, *shape], "stride": 2**level, "anchor_size": 8 * 2**level}
            for level, (name, shape) in enumerate(
                (("P2", [200, 272]), ("P3", [100, 136]), ("P4", [50, 68]), ("P5", [25, 34]), ("pool", [13, 17])), 2
            )
        ],
        "losses_in_train_mode": {"objectness": 0.695, "rpn_regression": 0.21},
        "before": {"recall": FIRST_RECALL, "objectness_positive": 0.51, "objectness_negative": 0.50},
        "after": {"recall": RECALL, "objectness_positive": 0.83, "objectness_negative": 0.04},
        "proposal_recall": 0.93,
        "compared": 32,
        "proposals_on_example": 1000,
        "example": "test/000003",
        "roi_align": {"pooled": [256, 7, 7], "largest_difference_from_torchvision": 7.6e-06},
        "conditions": CONDITIONS,
    },
    "features": {
        "images": 560,
        "rois": 112000,
        "levels": {"P2": 0.21, "P3": 0.27, "P4": 0.41, "P5": 0.11},
    },
    "evaluate": {
        "box_ap": 0.487,
        "box_ap50": 0.782,
        "box_ap75": 0.521,
        "mask_ap": 0.441,
        "mask_ap50": 0.751,
        "mask_ap75": 0.463,
        **{f"{kind}_ap_{size}": value for kind in ("box", "mask") for size, value in SIZES.items()},
        **{f"{kind}_ar_{most}": 0.4 + 0.05 * len(most) for kind in ("box", "mask") for most in ("1", "10", "100")},
        "by_class": {
            name: {
                "box_ap": 0.4 + 0.1 * i,
                "box_ap50": 0.7 + 0.1 * i,
                "box_ap75": 0.5,
                "mask_ap": 0.4,
                "mask_ap50": 0.7,
                "mask_ap75": 0.45,
            }
            for i, name in enumerate(CLASSES)
        },
        "ap50_interval": {
            "box": {"estimate": 0.782, "low": 0.713, "high": 0.834, "resamples": 1000},
            "mask": {"estimate": 0.751, "low": 0.688, "high": 0.809, "resamples": 1000},
        },
        "mask_iou": 0.812,
        "mask_iou_coverage": 0.9,
        "proposal_recall": 0.93,
        "proposals": 200,
        "classifier": {
            "accuracy": 0.941,
            "by_class": {
                name: {"precision": 0.9 - 0.03 * i, "recall": 0.88 - 0.02 * i, "support": 3000 - 700 * i}
                for i, name in enumerate(("background", *CLASSES))
            },
            "macro_precision": 0.84,
            "macro_recall": 0.83,
            "confusion": [[2900, 40, 30, 30], [90, 2150, 20, 40], [60, 10, 1500, 30], [70, 60, 20, 750]],
        },
        "border": {
            "remove": {"box_ap50": 0.611, "mask_ap50": 0.590},
            "clip": {"box_ap50": 0.782, "mask_ap50": 0.751},
        },
        "regressor": {"iou_before": 0.671, "iou_after": 0.803},
        "halves": {
            "before": 0.5,
            "after": 0.581,
            "share_above_0.5_before": 0.0,
            "share_above_0.5_after": 0.72,
            "after_by_side": {"left": 0.57, "right": 0.58, "top": 0.55, "bottom": 0.62},
            "histogram": {"edges": [0, 0.5, 1], "before": [480, 0], "after": [130, 350]},
        },
        "errors": {
            "correct": 96,
            "duplicate": 4,
            "classification": 9,
            "localization": 11,
            "both": 1,
            "background": 23,
            "missed": 14,
            "ignored": 0,
        },
        "funnel": {
            "objects": 120,
            "found": 96,
            "missed": 24,
            "lost_at": dict(zip(STEPS, (1, 2, 9, 5, 3, 0, 1, 1, 2), strict=True)),
        },
        "unannotated": {
            "image": "test/000017",
            "class": "animal",
            "probability": 0.97,
            "known": True,
            "iou_with_unlabeled": 0.84,
        },
        "detections": 144,
        "split": "test",
        "images": 80,
        "conditions": CONDITIONS,
    },
    "predict": {"pictures": 1, "detections": 2, "unreadable": {}, "conditions": CONDITIONS},
    "detectors": {
        "detectors": {
            "mask_rcnn": {
                "ap": 0.487,
                "ap50": 0.782,
                "ap75": 0.521,
                "by_class": {name: {"ap": 0.4, "ap50": 0.7, "ap75": 0.5} for name in CLASSES},
                "by_size": {name: {"ap": 0.4, "ap50": 0.7, "ap75": 0.5} for name in ("small", "medium", "large")},
                "threshold": 0.61,
                "precision": 0.8,
                "recall": 0.7,
                "errors": dict(zip(ERRORS, (84, 2, 6, 7, 1, 11, 20, 0), strict=True)),
                "detections_per_image": 4.5,
            },
            "one_stage": {
                "ap": 0.387,
                "ap50": 0.702,
                "ap75": 0.321,
                "by_class": {name: {"ap": 0.3, "ap50": 0.6, "ap75": 0.4} for name in CLASSES},
                "by_size": {name: {"ap": 0.3, "ap50": 0.6, "ap75": 0.4} for name in ("small", "medium", "large")},
                "threshold": 0.33,
                "precision": 0.7,
                "recall": 0.6,
                "errors": dict(zip(ERRORS, (72, 5, 6, 17, 1, 9, 25, 0), strict=True)),
                "detections_per_image": 14.5,
            },
        },
        "differences": {
            "all": {"ap": gap(0.1, 0.05, 0.16), "ap50": gap(0.08, 0.02, 0.13), "ap75": gap(0.2, 0.1, 0.3)},
            **{name: {key: gap(0.1, -0.02, 0.2) for key in ("ap", "ap50", "ap75")} for name in CLASSES},
            "small": None,
            **{name: {key: gap(0.1, 0.02, 0.2) for key in ("ap", "ap50", "ap75")} for name in ("medium", "large")},
        },
        "counts": {"all": 120, **dict.fromkeys(CLASSES, 40), "small": 0, "medium": 100, "large": 20},
        "objects": {"both": 70, "mask_rcnn_only": 14, "one_stage_only": 2, "neither": 34},
        "images": {"mask_rcnn": ["test/000003"], "one_stage": ["test/000004"]},
    },
}


def metrics(**changes: Any) -> dict[str, Any]:
    """A copy of the metrics; `rpn__parameters=5` changes `metrics/rpn.json`'s `parameters`, and so on down."""
    result = copy.deepcopy(METRICS)
    for place, value in changes.items():
        *path, last = place.split("__")
        entry = result
        for key in path:
            entry = entry[key]
        entry[last] = value
    return result


def metrics_of(names: Sequence[str]) -> dict[str, Any]:
    """The metrics of a set with other classes, each as the vehicles are; every class is called the next one once."""
    result = metrics()
    anchors, evaluate = result["anchors"], result["evaluate"]
    for place in (anchors, anchors["best_anchor_iou"], evaluate, evaluate["classifier"]):
        kept = {"background": place["by_class"]["background"]} if place is evaluate["classifier"] else {}
        place["by_class"] = kept | dict.fromkeys(names, place["by_class"][CLASSES[0]])
    result["ingest"]["split"] = dict.fromkeys(names, result["ingest"]["split"][CLASSES[0]])
    cells = np.eye(len(names) + 1, dtype=int)
    evaluate["classifier"]["confusion"] = (9 * cells + np.roll(cells, 1, axis=1)).tolist()
    evaluate["unannotated"] = evaluate["unannotated"] | {"class": names[-1]}
    result["prepare"]["example"]["labels"] = [names[0], names[-1]]
    detectors = result["detectors"]
    for one in detectors["detectors"].values():
        one["by_class"] = dict.fromkeys(names, one["by_class"][CLASSES[0]])
    for table in (detectors["differences"], detectors["counts"]):
        value = table[CLASSES[0]]
        for name in CLASSES:
            del table[name]
        table.update(dict.fromkeys(names, value))
    return result


def validation_metrics() -> dict[str, Any]:
    """Those of a run that is measured on 48 of the training images, which it did not learn from."""
    return metrics(
        ingest__train_images=192,
        ingest__validation_images=48,
        ingest__split={name: {"train": 100, "test": 40, "validation": 20} for name in CLASSES},
        evaluate__split="validation",
        evaluate__images=48,
    )


def write_run(root: Path, content: dict[str, Any] | None = None, params: Params | None = None) -> RunResults:
    """Writes the metrics, plots and tables of a run into `root` and gives their reader."""
    content = METRICS if content is None else content
    write_metrics(root, content)
    known = {stage: value | content.get(stage, {}) for stage, value in METRICS.items()}  # what `content` lacks too
    write_metrics(root, {"summary": headline_numbers(known), "provenance": provenance(known)})
    for name in FIGURES:
        path = root / "plots" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(path)
    write_tables(root / "plots")
    write_explorer(root / "plots", classes=Classes(tuple(known["evaluate"]["by_class"])))
    charts = root / "charts"
    charts.mkdir(exist_ok=True)
    for name in ("rpn", "rpn_recall", "backbone", "recall", "box_head", "mask_head", "joint", "one_stage", "gradients"):
        picture(charts / f"{name}.png")
    seconds = {
        "backbone": 402.0,
        "features": 61.0,
        "box_head": 118.0,
        "mask_head": 150.5,
        "joint": 489.0,
        "one_stage": 120.0,
    }
    an_image = {"mask_rcnn": 0.9, "one_stage": 0.3}
    return RunResults(root, params or training_params(), charts, seconds, an_image)


def write_metrics(root: Path, content: dict[str, Any]) -> None:
    """Writes a file for each stage."""
    (root / "metrics").mkdir(parents=True, exist_ok=True)
    for stage, value in content.items():
        (root / "metrics" / f"{stage}.json").write_text(json.dumps(value))


def picture(path: Path, width: int = 32, height: int = 24) -> None:
    """A small PNG of gray noise."""
    noise = np.random.default_rng(len(path.name)).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(path)


def write_tables(plots: Path) -> None:
    """Histories that fall, gradients, and recall curves."""
    history(plots / "rpn", ("objectness", "rpn_regression"), weights={})
    history(plots / "backbone", ("objectness", "rpn_regression", "classification", "box_regression"), test=False)
    history(plots / "box_head", ("classification", "box_regression"))
    history(plots / "mask_head", ("classification", "box_regression", "mask"))
    history(plots / "joint", LOSSES, weights={"mask": 2.0})
    history(plots / "one_stage", ("classification", "box_regression"))
    gradients(plots, dict(zip(LOSSES, (0.1, 0.05, 0.3, 0.15, 0.4), strict=True)))
    counts = [int(key) for key in RECALL]
    recall = {"proposals": counts, "recall": list(RECALL.values())}
    pd.DataFrame(recall).to_csv(plots / "evaluate_rpn" / "recall.csv", index=False)
    both = {"proposals": counts, "before": list(FIRST_RECALL.values()), "after": list(RECALL.values())}
    pd.DataFrame(both).to_csv(plots / "evaluate_backbone" / "recall.csv", index=False)


def history(
    folder: Path,
    terms: tuple[str, ...],
    weights: dict[str, float] | None = None,
    *,
    test: bool = True,
    end: float = 0.2,
) -> None:
    """A training's two tables; each loss falls from 1 to `end`, the test's from 1 to 1.5 times that."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = weights or {}
    steps = np.arange(1, 201)
    fall = end + (1 - end) * np.exp(-steps / 30)
    wiggle = 1 + 0.1 * np.sin(steps * math.e)
    frame = {"iteration": steps, "epoch": steps // 50, **dict.fromkeys(terms, fall * wiggle)}
    frame |= {f"{term}_weighted": weights.get(term, 1.0) * frame[term] for term in terms}
    frame["total"] = sum(frame[f"{term}_weighted"] for term in terms)
    pd.DataFrame(frame).to_csv(folder / "train.csv", index=False)
    if test:
        rows = steps[::40]
        losses = {term: 1.5 * end + (1 - end) * np.exp(-rows / 30) for term in terms}
        total = sum(weights.get(term, 1.0) * losses[term] for term in terms)
        pd.DataFrame({"iteration": rows, **losses, "total": total}).to_csv(folder / "test.csv", index=False)


def losses_on_test_images(plots: Path, before: dict[str, float], after: dict[str, float]) -> None:
    """Joint training's table of the test images, of its start and its end alone."""
    pd.DataFrame([{"iteration": 0, **before}, {"iteration": 200, **after}]).to_csv(
        plots / "joint/test.csv", index=False
    )


def gradients(plots: Path, shares: dict[str, float]) -> None:
    """Joint training's table of gradients: nine even measurements, then three with these shares."""
    even = dict.fromkeys(shares, 1 / len(shares))
    rows = [{"iteration": 1 + 16 * i, **(even if i < 9 else shares)} for i in range(12)]
    norms = [{f"{term}_norm": 3 * row[term] for term in shares} for row in rows]
    table = pd.DataFrame([row | norm for row, norm in zip(rows, norms, strict=True)])
    table.to_csv(plots / "joint/gradients.csv", index=False)


def training_params(*, box_head: int = 3, mask_head: int = 4, **joint: Any) -> Params:
    """The project's params with so many epochs of the heads and, if not told otherwise, an end-to-end training."""
    params = with_params(load_params(), "box_head", epochs=box_head)
    fixed = {"backbone_rate_factor": 0.1, "gradient_interval": 25}
    values = {"scheme": "end_to_end", "epochs": 3, "trainable_layers": 0, **fixed}
    return with_params(with_params(params, "mask_head", epochs=mask_head), "joint", **(values | joint))


def with_params(params: Params, section: str, **changes: Any) -> Params:
    """The params with some keys of a section changed."""
    return replace(params, **{section: replace(getattr(params, section), **changes)})

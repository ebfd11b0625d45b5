"""Stage `anchors` (task 2): histograms of scale and aspect ratio, the anchors that their modes give, their fit."""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("anchors: stages run from the project's root as: python -m stages.anchors")

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from src.core import paths
from src.core.files import atomic_write, write_json
from src.core.params import Params
from src.core.stage import run
from src.core.validation import validated_by
from src.data.letterbox import Letterbox
from src.data.prepared import PreparedFile
from src.data.selection import check_validation
from src.figures.anchors import plot_best_anchor_iou, plot_histograms
from src.ops.boxes import is_inside
from src.plain_rpn.anchor_grid import AnchorGrid
from src.plain_rpn.best_anchor_iou import best_ious, fpn_anchors, summarize
from src.plain_rpn.network import STRIDE
from src.plain_rpn.statistics import BoxStatistics, anchors_from_modes, box_statistics, scales, statistics_by_class
from src.structures.classes import LABELS
from src.structures.sample import TEST, TRAIN

PLOTS = paths.plots("anchors")


def main(params: Params) -> None:
    """The training objects decide the anchors; best IoUs are measured on the objects of both splits.

    Before the first training it is also checked that what is to be validated can be.
    """
    with PreparedFile(paths.PREPARED) as prepared:
        check_validation(prepared, validated_by(params))
        letterbox = prepared.letterbox
        train, train_labels = objects(prepared, TRAIN)
        test, test_labels = objects(prepared, TEST)
    picture = (letterbox.resized_width, letterbox.resized_height)
    overall = box_statistics(train, params.anchors.bins, picture)
    by_class = statistics_by_class(train, train_labels, params.anchors.bins, picture)
    # One step of the grid is left on each axis, so that some location has the anchor inside the picture.
    sizes = anchors_from_modes(overall, params.anchors.count, (picture[0] - STRIDE, picture[1] - STRIDE)).tolist()
    write_json(paths.ANCHORS, {"anchors": sizes, **modes(overall)})

    boxes, labels = torch.from_numpy(np.concatenate([train, test])), np.concatenate([train_labels, test_labels])
    best, best_fpn = best_anchor_ious(boxes, sizes, letterbox, params)
    per_class = {name: best[torch.from_numpy(labels == label)] for name, label in LABELS.items()}
    facts = {
        **describe(overall),
        "scale_median": overall.scale_median,
        "by_class": {name: describe(group) for name, group in by_class.items()},
        "anchors": sizes,
        "best_anchor_iou": {**summarize(best), "by_class": {name: summarize(part) for name, part in per_class.items()}},
        "best_anchor_iou_fpn": summarize(best_fpn),
        "larger_than_anchor": larger(train, sizes),
        "mode_counts": {"scale": int(overall.scale.counts.max()), "ratio": int(overall.log_ratio.counts.max())},
    }
    write_json(paths.metrics("anchors"), facts)
    plot_histograms(overall, by_class, PLOTS / "histograms.png")
    plot_best_anchor_iou(
        {name: part.numpy() for name, part in per_class.items()}, best_fpn.numpy(), PLOTS / "best_anchor_iou.png"
    )
    write_tables(overall, by_class)


def objects(prepared: PreparedFile, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and labels of the annotated objects of a split, crowd regions left out."""
    boxes, labels = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)]
    for index in prepared.indices(split):
        single = ~prepared.crowd(index)
        boxes.append(prepared.boxes(index)[single])
        labels.append(prepared.labels(index)[single])
    return np.concatenate(boxes), np.concatenate(labels)


def best_anchor_ious(
    boxes: Tensor, sizes: list[list[float]], letterbox: Letterbox, params: Params
) -> tuple[Tensor, Tensor]:
    """Each box's best IoU with part (a)'s anchors inside the picture, and with all of part (b)'s."""
    grid = AnchorGrid.from_params(sizes, letterbox, params.rpn)
    backbone = params.backbone
    pyramid = fpn_anchors(backbone.anchor_sizes, backbone.anchor_ratios, letterbox.height, letterbox.padded_width)
    return best_ious(boxes, grid.anchors[is_inside(grid.anchors, grid.region)]), best_ious(boxes, pyramid)


def modes(overall: BoxStatistics) -> dict[str, list[float]]:
    """All modes of both histograms, highest first."""
    scale, log_ratio = overall.scale, overall.log_ratio
    return {
        "scale_modes": scale.centers[scale.modes()].tolist(),
        "ratio_modes": (2.0 ** log_ratio.centers[log_ratio.modes()]).tolist(),
    }


def describe(group: BoxStatistics) -> dict[str, Any]:
    """A group's number of objects and its two modes."""
    return {"objects": group.objects, "scale_mode": group.scale_mode, "ratio_mode": group.ratio_mode}


def larger(boxes: np.ndarray, sizes: list[list[float]]) -> float | None:
    """Share of the objects that have a larger area than every anchor."""
    largest = max(width * height for width, height in sizes)
    return int((scales(boxes) ** 2 > largest).sum()) / len(boxes) if len(boxes) else None


def write_tables(overall: BoxStatistics, by_class: Mapping[str, BoxStatistics]) -> None:
    """The histograms as csv: a row a bin, its middle and the counts of all objects and of each class."""
    groups = {"overall": overall, **by_class}
    scale = pd.DataFrame({"scale": overall.scale.centers} | {k: group.scale.counts for k, group in groups.items()})
    ratios = 2.0**overall.log_ratio.centers
    log_ratio = pd.DataFrame({"ratio": ratios} | {k: group.log_ratio.counts for k, group in groups.items()})
    for name, table in (("scale", scale), ("ratio", log_ratio)):
        with atomic_write(PLOTS / f"{name}.csv") as path:
            table.to_csv(path, index=False, float_format="%.6g")


if __name__ == "__main__":
    run("anchors", main)

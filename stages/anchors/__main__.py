"""Stage `anchors` (task 2): histograms of scale and aspect ratio, the anchors that their modes give, their fit."""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("anchors: stages run from the project's root as: python -m stages.anchors")

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from src.core import paths
from src.core.files import write_csv, write_json
from src.core.params import Params
from src.core.stage import run
from src.core.validation import validated_by
from src.data.letterbox import Frame
from src.data.prepared import PreparedFile
from src.data.selection import check_validation
from src.figures.anchors import plot_best_anchor_iou, plot_histograms
from src.ops.boxes import is_inside
from src.plain_rpn.anchor_grid import AnchorGrid
from src.plain_rpn.best_anchor_iou import best_ious, fpn_anchors, summarize
from src.plain_rpn.network import STRIDE
from src.plain_rpn.statistics import BoxStatistics, anchors_from_modes, box_statistics, scales, statistics_by_class
from src.structures.sample import TEST, TRAIN

PLOTS = paths.plots("anchors")


def main(params: Params) -> None:
    """The training objects decide the anchors; best IoUs are measured on the objects of both splits.

    Before the first training it is also checked that what is to be validated can be.
    """
    with PreparedFile(paths.PREPARED) as prepared:
        check_validation(prepared, validated_by(params))
        frame, classes = prepared.frame, prepared.classes
        train, test = objects(prepared, TRAIN), objects(prepared, TEST)
        pictures = picture_sizes(prepared)
    middle, largest = pictures[(len(pictures) - 1) // 2], pictures[-1]
    overall = box_statistics(train.boxes, params.anchors.bins, largest)
    by_class = statistics_by_class(train.boxes, train.labels, classes, params.anchors.bins, largest)
    # One step of the grid is left on each axis, so that some location has the anchor inside the picture.
    sizes = anchors_from_modes(overall, params.anchors.count, (middle[0] - STRIDE, middle[1] - STRIDE)).tolist()
    write_json(paths.ANCHORS, {"anchors": sizes, **modes(overall)})

    both = train + test
    best, best_fpn = best_anchor_ious(both, sizes, frame, params)
    per_class = {name: best[torch.from_numpy(both.labels == label)] for name, label in classes.items()}
    facts = {
        **describe(overall),
        "scale_median": overall.scale_median,
        "by_class": {name: describe(group) for name, group in by_class.items()},
        "anchors": sizes,
        "best_anchor_iou": {**summarize(best), "by_class": {name: summarize(part) for name, part in per_class.items()}},
        "best_anchor_iou_fpn": summarize(best_fpn),
        "larger_than_anchor": larger(train.boxes, sizes),
        "mode_counts": {"scale": int(overall.scale.counts.max()), "ratio": int(overall.log_ratio.counts.max())},
    }
    write_json(paths.metrics("anchors"), facts)
    plot_histograms(overall, by_class, PLOTS / "histograms.png")
    plot_best_anchor_iou(
        {name: part.numpy() for name, part in per_class.items()}, best_fpn.numpy(), PLOTS / "best_anchor_iou.png"
    )
    write_tables(by_class)


@dataclass(frozen=True)
class Objects:
    """Annotated objects of many pictures, crowd regions left out.

    Attributes:
        boxes: on the canvas.
        labels: their classes.
        regions: x1 y1 x2 y2 of each one's picture on the canvas.
    """

    boxes: Float32[np.ndarray, "n 4"]
    labels: Int64[np.ndarray, " n"]
    regions: Float32[np.ndarray, "n 4"]

    def __add__(self, other: Objects) -> Objects:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Objects(*(np.concatenate(pair) for pair in pairs))


def objects(prepared: PreparedFile, split: str) -> Objects:
    """The objects of a split."""
    boxes, labels, regions = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)], [np.zeros((0, 4), np.float32)]
    for index in prepared.indices(split):
        single = ~prepared.crowd(index)
        boxes.append(prepared.boxes(index)[single])
        labels.append(prepared.labels(index)[single])
        regions.append(np.tile(np.array(prepared.letterbox(index).region, np.float32), (len(boxes[-1]), 1)))
    return Objects(*(np.concatenate(parts) for parts in (boxes, labels, regions)))


def picture_sizes(prepared: PreparedFile) -> list[tuple[int, int]]:
    """Width and height on the canvas of each training picture by area, or of the whole frame where there is none."""
    letterboxes = [prepared.letterbox(index) for index in prepared.indices(TRAIN)]
    sizes = [(one.resized_width, one.resized_height) for one in letterboxes]
    return sorted(sizes, key=math.prod) or [(prepared.frame.width, prepared.frame.height)]


def best_anchor_ious(found: Objects, sizes: list[list[float]], frame: Frame, params: Params) -> tuple[Tensor, Tensor]:
    """Each box's best IoU with part (a)'s anchors inside its picture, and with all of part (b)'s."""
    boxes, regions = torch.from_numpy(found.boxes), torch.from_numpy(found.regions)
    grid, best = AnchorGrid.from_params(sizes, frame, params.rpn), torch.zeros(len(boxes))
    for region in regions.unique(dim=0):
        here = (regions == region).all(dim=1)
        best[here] = best_ious(boxes[here], grid.anchors[is_inside(grid.anchors, region)])
    backbone = params.backbone
    pyramid = fpn_anchors(backbone.anchor_sizes, backbone.anchor_ratios, frame.height, frame.padded_width)
    return best, best_ious(boxes, pyramid)


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


def write_tables(by_class: Mapping[str, BoxStatistics]) -> None:
    """The histograms as csv: a row a class and bin, with the bin's middle; `dvc plots` draws a line a class."""
    for name, histograms in (("scale", scale_histogram), ("ratio", ratio_histogram)):
        rows = [(kind, *row) for kind, group in by_class.items() for row in histograms(group)]
        write_csv(PLOTS / f"{name}.csv", ("class", name, "objects"), rows)


def scale_histogram(group: BoxStatistics) -> Iterator[tuple[float, int]]:
    """The middle of each bin, pixels of the canvas, and its count."""
    return zip(group.scale.centers.tolist(), group.scale.counts.tolist(), strict=True)


def ratio_histogram(group: BoxStatistics) -> Iterator[tuple[float, int]]:
    """The middle of each bin as height / width, and its count."""
    return zip((2.0**group.log_ratio.centers).tolist(), group.log_ratio.counts.tolist(), strict=True)


if __name__ == "__main__":
    run("anchors", main)

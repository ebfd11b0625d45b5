"""Histograms of the boxes' scale and aspect ratio, their modes, and the anchors that the modes give (task 2).

Scale is sqrt(width * height) in canvas pixels, aspect ratio is height / width. Ratios are counted by their base-2
logarithm, where a box twice as high as wide lies as far from the square as one twice as wide as high.

Bins have fixed ends, so that histograms of two sets, or of two classes, can be laid over each other: scales run from
0 to that of a box as large as the picture, log ratios from -3 to 3. What lies beyond counts in the outermost bin.
A mode is the middle of a highest bin; among equally high bins the lower one comes first.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int64

from src.core.errors import InputError
from src.structures.classes import Classes

logger = logging.getLogger(__name__)

LOG_RATIO_RANGE: Final = (-3.0, 3.0)


@dataclass(frozen=True)
class Histogram:
    """Counts of values in bins of equal width.

    Attributes:
        edges: ends of the bins, ascending.
        counts: values in each bin.
    """

    edges: Float[np.ndarray, " bins_and_one"]
    counts: Int64[np.ndarray, " bins"]

    @property
    def centers(self) -> Float[np.ndarray, " bins"]:
        """The middle of each bin."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    def modes(self) -> list[int]:
        """Indices of the bins that hold something, highest first, without those that touch a higher one taken before.

        Leaving out neighbors keeps one broad hump from giving two modes.
        """
        taken: list[int] = []
        for index in np.argsort(-self.counts, kind="stable").tolist():
            if self.counts[index] and all(abs(index - other) > 1 for other in taken):
                taken.append(index)
        return taken

    def mode(self) -> float | None:
        """The middle of the highest bin; None where the histogram is empty."""
        modes = self.modes()
        return float(self.centers[modes[0]]) if modes else None


@dataclass(frozen=True)
class BoxStatistics:
    """Histograms of one group of boxes. Ratios are binned by logarithm; `ratio_mode` is a ratio again."""

    objects: int
    scale: Histogram
    log_ratio: Histogram
    scale_median: float | None

    @property
    def scale_mode(self) -> float | None:
        """Canvas pixels; None without boxes."""
        return self.scale.mode()

    @property
    def ratio_mode(self) -> float | None:
        """Height / width; None without boxes."""
        mode = self.log_ratio.mode()
        return None if mode is None else 2.0**mode


def scales(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """Square roots of the boxes' areas, in the boxes' pixels."""
    sides = np.asarray(boxes, np.float64).reshape(-1, 4)
    return np.sqrt((sides[:, 2] - sides[:, 0]) * (sides[:, 3] - sides[:, 1]))


def log_ratios(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """Base-2 logarithms of height / width.

    Raises:
        ValueError: a box has no width or no height.
    """
    sides = np.asarray(boxes, np.float64).reshape(-1, 4)
    widths, heights = sides[:, 2] - sides[:, 0], sides[:, 3] - sides[:, 1]
    if not (np.all(widths > 0) and np.all(heights > 0)):
        index = int(np.argmin(np.minimum(widths, heights)))
        raise ValueError(f"box {index}: expected width and height above 0, found {sides[index].tolist()}")
    return np.log2(heights / widths)


def histogram(values: Float[np.ndarray, " n"], bins: int, limits: tuple[float, float]) -> Histogram:
    """Counts `values` in `bins` equal bins between `limits`; values beyond count in the outermost bins.

    A value on an edge belongs to the bin above it, the last edge to the last bin.
    """
    counts, edges = np.histogram(np.clip(values, *limits), bins, limits)
    return Histogram(edges, counts.astype(np.int64))


def box_statistics(boxes: Float[np.ndarray, "n 4"], bins: int, picture: tuple[float, float]) -> BoxStatistics:
    """Histograms of the boxes.

    Args:
        boxes: x1 y1 x2 y2 in canvas pixels, none degenerate.
        bins: bins of each histogram.
        picture: width and height of the largest picture on the canvas, pixels.
    """
    sizes = scales(boxes)
    largest = float(np.sqrt(picture[0] * picture[1]))
    median = float(np.median(sizes)) if len(sizes) else None
    ratio = histogram(log_ratios(boxes), bins, LOG_RATIO_RANGE)
    return BoxStatistics(len(sizes), histogram(sizes, bins, (0.0, largest)), ratio, median)


def statistics_by_class(
    boxes: Float[np.ndarray, "n 4"],
    labels: Int64[np.ndarray, " n"],
    classes: Classes,
    bins: int,
    picture: tuple[float, float],
) -> dict[str, BoxStatistics]:
    """`box_statistics` of each class's boxes, by class name in label order."""
    return {name: box_statistics(boxes[labels == label], bins, picture) for name, label in classes.items()}


def anchors_from_modes(
    statistics: BoxStatistics, count: int, largest: tuple[float, float]
) -> Float[np.ndarray, "count 2"]:
    """Widths and heights of the `count` anchors that the histograms' modes give, canvas pixels.

    Every mode of scale is paired with every mode of ratio; the pairs whose two bins have the largest product of
    counts win. For one anchor these are simply the two highest bins. A pair larger than `largest` is passed over:
    wherever it stood it would cross the border, and such anchors are left out of training. Only where too few are left,
    as with objects that fill their pictures, such pairs are cut to `largest`, with a line in the log.

    Sides are rounded to whole pixels. Every anchor inside a large object has the same IoU with it, and all of them
    have "the highest IoU" of task 3. With whole sides those IoUs are equal in floating point too. With fractions
    they differ in their last bit, so that chance made a quarter of the tied anchors positive and, below 0.3, the
    others negative: noise in the labels that a network cannot learn.

    Args:
        statistics: of the training boxes.
        count: anchors per location.
        largest: width and height of the largest anchor that fits between the picture's borders at some location: of
            the picture of median area, where they differ.

    Raises:
        InputError: the histograms have too few modes for `count` anchors.
    """
    scale, ratio = statistics.scale, statistics.log_ratio
    pairs = [(s, r) for s in scale.modes() for r in ratio.modes()]
    pairs.sort(key=lambda pair: -int(scale.counts[pair[0]] * ratio.counts[pair[1]]))
    sizes = [_width_height(scale.centers[s], 2.0 ** ratio.centers[r]) for s, r in pairs]
    fitting = [size for size in sizes if size[0] <= largest[0] and size[1] <= largest[1]]
    if len(fitting) < count:
        fitting += _cut([size for size in sizes if size not in fitting], fitting, count - len(fitting), largest)
    if len(fitting) < count:
        text = f"anchors.count is {count}, but the modes of {statistics.objects} training boxes give {len(fitting)}"
        raise InputError(f"params.yaml: {text} that fit the picture; lower it or raise anchors.bins")
    return np.array(fitting[:count], np.float64)


def _cut(
    sizes: list[tuple[float, float]], others: list[tuple[float, float]], count: int, largest: tuple[float, float]
) -> list[tuple[float, float]]:
    """Up to `count` of the sizes, cut to whole pixels within `largest`, none like another one; each is logged."""
    cut: list[tuple[float, float]] = []
    for size in sizes:
        small = float(min(size[0], largest[0] // 1)), float(min(size[1], largest[1] // 1))
        if len(cut) < count and small not in (*others, *cut):
            cut.append(small)
            text = "anchors: the objects' %g x %g pixels fit the picture nowhere; the anchor is cut to %g x %g"
            logger.warning(text, *size, *small)
    return cut


def _width_height(scale: float, ratio: float) -> tuple[float, float]:
    return float(max(1, round(scale / np.sqrt(ratio)))), float(max(1, round(scale * np.sqrt(ratio))))

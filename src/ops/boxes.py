"""Boxes as x1 y1 x2 y2 in continuous pixel coordinates: areas, overlaps, deltas, borders (tasks 3, 6, 14, 15).

Pixel i covers [i, i + 1), so that a box's width is x2 - x1, without the "+ 1" of older detectors. Deltas are the
assignment's (and Fast R-CNN's, appendix C of the R-CNN paper): offsets of the *centers* in units of the anchor's
size, and logarithms of the ratios of the sizes.

Letters in shapes: n, m boxes; k classes.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Number = int | float
Region = Sequence[Number] | Float[Tensor, "4"]

# exp of this is 62.5: a delta may enlarge an anchor of 16 pixels to 1000 pixels, and never overflows.
LARGEST_LOG_RATIO = math.log(1000.0 / 16.0)


def box_area(boxes: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """Areas in square pixels; 0 for empty and inverted boxes."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).unbind(1)
    return width * height


def _intersection(a: Float[Tensor, "n 4"], b: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    # Coordinate by coordinate: pairs of numbers in the last dimension would take several times as long.
    left, top, right, bottom = (columns[:, None] for columns in a.unbind(1))  # [n, 1]
    other_left, other_top, other_right, other_bottom = b.unbind(1)  # [m]
    width = torch.minimum(right, other_right).sub_(torch.maximum(left, other_left)).clamp_(min=0)  # [n, m]
    height = torch.minimum(bottom, other_bottom).sub_(torch.maximum(top, other_top)).clamp_(min=0)
    return width.mul_(height)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Quotient, and 0 where `whole` is 0: two empty boxes do not overlap."""
    return torch.where(whole > 0, part / whole.clamp(min=torch.finfo(whole.dtype).tiny), 0.0)


def box_iou(a: Float[Tensor, "n 4"], b: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """Intersection over union of each pair, in [0, 1]; 0 where a box is empty."""
    intersection = _intersection(a, b)
    return _ratio(intersection, box_area(a)[:, None] + box_area(b)[None, :] - intersection)


def intersection_over_area(a: Float[Tensor, "n 4"], regions: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """The share of each box of `a` that lies in each region, in [0, 1]: COCO's overlap with crowd regions."""
    return _ratio(_intersection(a, regions), box_area(a)[:, None].expand(-1, len(regions)))


def _centers_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    sizes = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sizes, sizes


def encode(boxes: Float[Tensor, "n 4"], anchors: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    """Deltas that move each anchor onto its box; `decode` is the inverse.

    t_x = (x - x_a) / w_a, t_y = (y - y_a) / h_a, t_w = log(w / w_a), t_h = log(h / h_a), x and y being centers.

    Args:
        boxes: targets, one per anchor.
        anchors: anchors or proposals.

    Returns:
        t_x, t_y, t_w, t_h.

    Raises:
        ValueError: where a box or an anchor has no positive width and height.
    """
    centers, sizes = _centers_and_sizes(boxes)  # [n, 2]
    anchor_centers, anchor_sizes = _centers_and_sizes(anchors)  # [n, 2]
    if not ((sizes > 0) & (anchor_sizes > 0)).all():  # not for NaN either
        for name, values in (("boxes", sizes), ("anchors", anchor_sizes)):
            for row in (~(values > 0).all(dim=1)).nonzero().flatten().tolist():
                raise ValueError(f"{name}[{row}]: expected a positive width and height, found {values[row].tolist()}")
    return torch.cat([(centers - anchor_centers) / anchor_sizes, torch.log(sizes / anchor_sizes)], dim=1)


def decode(deltas: Float[Tensor, "n four_k"], anchors: Float[Tensor, "n 4"]) -> Float[Tensor, "n four_k"]:
    """Boxes that deltas make of anchors.

    Args:
        deltas: k groups of t_x, t_y, t_w, t_h a row, one group a class; t_w and t_h are cut off at log(1000 / 16).
        anchors: anchors or proposals, one per row.

    Returns:
        k boxes per row, x1 y1 x2 y2, not clipped to any border.

    Raises:
        ValueError: where the row length is no multiple of 4.
    """
    if deltas.shape[1] % 4:
        raise ValueError(f"deltas: expected rows of a multiple of 4 numbers, found {deltas.shape[1]}")
    groups = deltas.unflatten(1, (-1, 4))  # [n, k, 4]
    anchor_centers, anchor_sizes = _centers_and_sizes(anchors[:, None, :])  # [n, 1, 2]
    centers = anchor_centers + groups[..., :2] * anchor_sizes
    half = 0.5 * anchor_sizes * torch.exp(groups[..., 2:].clamp(max=LARGEST_LOG_RATIO))
    return torch.cat([centers - half, centers + half], dim=-1).flatten(1)


def _corners(boxes: Tensor, region: Region) -> tuple[Tensor, Tensor]:
    corners = torch.as_tensor(region, dtype=boxes.dtype, device=boxes.device)  # [4]
    return corners[:2], corners[2:]


def clip(boxes: Float[Tensor, "*n 4"], region: Region) -> Float[Tensor, "*n 4"]:
    """Boxes cut off at the borders of `region` (x1 y1 x2 y2: the picture, not the padded canvas)."""
    low, high = _corners(boxes, region)
    corners = boxes.unflatten(-1, (2, 2))  # [*n, corner, xy]
    return torch.minimum(torch.maximum(corners, low), high).flatten(-2)


def is_inside(boxes: Float[Tensor, "n 4"], region: Region) -> Bool[Tensor, " n"]:
    """Whether a box lies in `region` entirely; touching the border from inside counts as inside."""
    low, high = _corners(boxes, region)
    left, top, right, bottom = boxes.unbind(1)
    return (left >= low[0]) & (top >= low[1]) & (right <= high[0]) & (bottom <= high[1])


def is_not_empty(boxes: Float[Tensor, "n 4"], min_size: Number = 0.0) -> Bool[Tensor, " n"]:
    """Whether both sides are positive and at least `min_size` pixels; False for NaN."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return ((sides >= min_size) & (sides > 0)).all(dim=1)

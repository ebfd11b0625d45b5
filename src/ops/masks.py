"""Masks between the canvas and the mask head's small grids (tasks 15, 16 and 17).

Letters in shapes: n masks; h, w canvas; r RoIs; d detections; s side of the small grid.
"""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from src.ops.boxes import Number


def mask_targets(
    masks: Bool[Tensor, "n h w"],
    boxes: Float[Tensor, "r 4"],
    assigned: Int64[Tensor, " r"],
    size: int,
    threshold: Number | None = 0.5,
    aligned: bool = True,
) -> Float[Tensor, "r s s"]:
    """What the mask head is to predict for each RoI: the mask of its ground truth, cropped to the box and resized.

    Cell values are RoIAlign's with adaptive sampling (every pixel counts): the share of the cell that the mask
    covers, and then 0 or 1. With `threshold=None, aligned=False` it is torchvision's `project_masks_on_boxes`, which
    keeps shares and shifts masks by half a pixel.

    Args:
        masks: on the canvas.
        boxes: RoIs, x1 y1 x2 y2 in canvas pixels.
        assigned: each RoI's mask.
        size: side of the grid.
        threshold: share from which a cell is 1; None returns the shares.
        aligned: half-pixel correct, as pasting is.

    Returns:
        Targets in [0, 1]; 0 for empty boxes.

    Raises:
        IndexError: where `assigned` names a mask that does not exist.
    """
    shares = torch.zeros(len(boxes), size, size, device=masks.device)
    height, width = masks.shape[-2:]
    corners = boxes.tolist()
    along_y = [_axis_means((y1, y2), size, height, aligned) for _, y1, _, y2 in corners]
    along_x = [_axis_means((x1, x2), size, width, aligned) for x1, _, x2, _ in corners]
    weights = (_moved([matrix for _, matrix in axis], masks.device) for axis in (along_y, along_x))
    for row, (index, weight_y, weight_x) in enumerate(zip(assigned.tolist(), *weights, strict=True)):
        top, left = along_y[row][0], along_x[row][0]
        crop = masks[index, top : top + weight_y.shape[1], left : left + weight_x.shape[1]]
        shares[row] = weight_y @ crop.float() @ weight_x.T
    return shares if threshold is None else (shares >= threshold).float()


def _axis_means(extent: tuple[float, float], cells: int, size: int, aligned: bool) -> tuple[int, Tensor]:
    """RoIAlign along one axis as a matrix: the first pixel, and [cells, pixels] weights of the pixels from there on.

    A cell takes as many points as it has pixels, rounded up: torchvision's adaptive sampling.
    """
    start = extent[0] - (0.5 if aligned else 0.0)
    length = extent[1] - extent[0] if aligned else max(extent[1] - extent[0], 1.0)
    samples = math.ceil(length / cells)
    if not samples > 0:
        return 0, torch.zeros(cells, 1)
    points = start + (torch.arange(cells * samples) + 0.5) * (length / (cells * samples))
    inside = (points >= -1) & (points <= size)
    points = points.clamp(0, size - 1)
    first = int(points[0])
    pixels = torch.arange(first, min(int(points[-1]) + 1, size - 1) + 1)
    weights = (1 - (points[:, None] - pixels).abs()).clamp(min=0) * inside[:, None]  # [cells * samples, pixels]
    return first, weights.reshape(cells, samples, -1).mean(dim=1)


def _moved(matrices: list[Tensor], device: torch.device) -> list[Tensor]:
    """Matrices of different sizes on a device, in one copy."""
    if not matrices:
        return []
    flat = torch.cat([matrix.flatten() for matrix in matrices]).to(device)
    parts = flat.split([matrix.numel() for matrix in matrices])
    return [part.view(matrix.shape) for part, matrix in zip(parts, matrices, strict=True)]


def paste_masks(
    probabilities: Float[Tensor, "d s s"], boxes: Float[Tensor, "d 4"], height: int, width: int
) -> Float[Tensor, "d height width"]:
    """Puts each small grid into its box on the canvas, bilinearly, by pixel centers.

    The meaning is `grid_sample(align_corners=False, padding_mode="zeros")` at the centers of all pixels, which is
    detectron2's: beyond the outermost cells' centers values fall off to 0 over half a cell on either side of the
    border. torchvision's `paste_masks_in_image` falls off likewise, but rounds boxes to whole pixels first. Only
    pixels that a box reaches are computed.

    Args:
        probabilities: in [0, 1], the predicted class's grid of each detection.
        boxes: x1 y1 x2 y2 in canvas pixels, anywhere; an empty box gives an empty mask.
        height: canvas rows.
        width: canvas columns.

    Returns:
        Probabilities on the canvas, not thresholded.
    """
    canvas = probabilities.new_zeros(len(boxes), height, width)
    for row, box in enumerate(boxes):
        top, left, values = paste_region(probabilities[row], box, height, width)
        canvas[row, top : top + values.shape[0], left : left + values.shape[1]] = values
    return canvas


def paste_region(
    probabilities: Float[Tensor, "s s"], box: Float[Tensor, " 4"], height: int, width: int
) -> tuple[int, int, Float[Tensor, "rows columns"]]:
    """The part of `paste_masks`' canvas that one box reaches; all else is 0.

    Returns:
        Its first row and first column on the canvas, and its values; none of an empty box or of one beyond the canvas.
    """
    side = probabilities.shape[-1]
    x1, y1, x2, y2 = box.tolist()
    top, weight_y = _axis_tents((y1, y2), side, height)
    left, weight_x = _axis_tents((x1, x2), side, width)
    return top, left, weight_y.to(probabilities) @ probabilities @ weight_x.to(probabilities).T


def _axis_tents(extent: tuple[float, float], side: int, size: int) -> tuple[int, Tensor]:
    """Bilinear enlargement along one axis as a matrix: the first pixel, and [pixels, side] weights of the cells."""
    cell = (extent[1] - extent[0]) / side
    if not cell > 0:
        return 0, torch.zeros(0, side)
    first = min(max(math.floor(extent[0] - 0.5 * cell), 0), size)
    last = min(max(math.ceil(extent[1] + 0.5 * cell), first), size)
    centers = torch.arange(first, last, dtype=torch.float64) + 0.5
    points = (centers - extent[0]) / cell - 0.5  # in cells, 0 being the first one's center
    return first, (1 - (points[:, None] - torch.arange(side)).abs()).clamp(min=0).float()

"""How far the detections of two detectors lie apart, and what has them do the same."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torchvision.ops import poolers, roi_align

from src.structures.detections import Detections


@contextmanager
def half_pixel_boxes() -> Iterator[None]:
    """Torchvision's detector pools with `aligned=False`; here it pools as the weights were trained."""
    poolers.roi_align = functools.partial(roi_align, aligned=True)
    try:
        yield
    finally:
        poolers.roi_align = roi_align


def compare(ours: list[Detections], theirs: list[dict[str, Tensor]]) -> str:
    """How far two detectors' findings lie apart."""
    counts = [(len(a.scores), len(b["scores"])) for a, b in zip(ours, theirs, strict=True)]
    if any(a != b for a, b in counts):
        return f"numbers of detections differ: {counts}"
    box = max(
        (float((a.boxes - b["boxes"]).abs().max()) for a, b in zip(ours, theirs, strict=True) if len(a.scores)),
        default=0.0,
    )
    mask = max(
        (float((a.masks - b["masks"][:, 0]).abs().max()) for a, b in zip(ours, theirs, strict=True) if len(a.scores)),
        default=0.0,
    )
    labels = all(torch.equal(a.labels, b["labels"]) for a, b in zip(ours, theirs, strict=True))
    return (
        f"in float32, {sum(a for a, _ in counts)} detections each, {'labels alike' if labels else 'labels differ'}, "
        f"boxes within {box:.1e} pixels, masks within {mask:.1e}"
    )

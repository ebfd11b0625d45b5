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


def compare(ours: list[Detections], theirs: list[dict[str, Tensor]], *, has_masks: bool = True) -> str:
    """How far two detectors' findings lie apart.

    Args:
        ours: by picture.
        theirs: likewise, in torchvision's form.
        has_masks: whether masks are compared too.
    """
    counts = [(len(a.scores), len(b["scores"])) for a, b in zip(ours, theirs, strict=True)]
    if any(a != b for a, b in counts):
        return f"numbers of detections differ: {counts}"
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if len(a.scores)]
    box = max((float((a.boxes - b["boxes"]).abs().max()) for a, b in pairs), default=0.0)
    labels = all(torch.equal(a.labels, b["labels"]) for a, b in pairs)
    text = (
        f"in float32, {sum(a for a, _ in counts)} detections each, {'labels alike' if labels else 'labels differ'}, "
        f"boxes within {box:.1e} pixels"
    )
    if not has_masks:
        return text
    mask = max((float((a.masks - b["masks"][:, 0]).abs().max()) for a, b in pairs), default=0.0)
    return f"{text}, masks within {mask:.1e}"

"""What is in a labelled set, in numbers that a person wants before training: by class, by size, by split."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from src.core.errors import InputError
from src.core.params import Params
from src.data.letterbox import Letterbox
from src.sources.left_out import in_words
from src.structures.classes import Classes
from src.structures.sample import SPLITS, Sample, Source

SHOWN: Final = 20  # pairs of duplicates


@dataclass
class Summary:
    """Counts that grow picture by picture.

    Attributes:
        classes: those of the set.
        anchors: sizes of the detector's anchors, ascending, in pixels of the canvas.
        images: pictures by split.
        objects: objects by split and class, crowd regions left out.
        sizes: objects by the largest anchor that is not larger: its place, -1 for none.
        empty: pictures without an object.
        crowd: crowd regions.
        seen: split and name of the pictures by their pixels.
    """

    classes: Classes
    anchors: tuple[float, ...]
    images: Counter[str] = field(default_factory=Counter)
    objects: Counter[tuple[str, str]] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)
    empty: int = 0
    crowd: int = 0
    seen: dict[bytes, list[tuple[str, str]]] = field(default_factory=dict)

    def add(self, sample: Sample, letterbox: Letterbox) -> None:
        """Counts a picture; `letterbox` brings its boxes to the canvas."""
        single = ~sample.crowd
        boxes = letterbox.boxes_to_canvas(sample.boxes[single])
        sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
        self.images[sample.split] += 1
        self.objects.update((sample.split, self.classes.name_of(int(label))) for label in sample.labels[single])
        self.sizes.update((np.searchsorted(self.anchors, sides, side="right") - 1).tolist())
        self.empty += not single.any()
        self.crowd += int(sample.crowd.sum())
        digest = hashlib.sha256(sample.image.tobytes()).digest()
        self.seen.setdefault(digest, []).append((sample.split, sample.name))

    def lines(self) -> list[str]:
        """The counts in words."""
        splits = [split for split in SPLITS if self.images[split]]
        counts = {f"{split} images": self.images[split] for split in splits}
        lines = [f"images: {in_words(counts) or 'none'}; {self.empty} without objects; {self.crowd} crowd regions"]
        for name in self.classes.names:
            by_split = {split: self.objects[split, name] for split in splits}
            lines.append(f"  {name}: {sum(by_split.values())} objects ({in_words(by_split) or 'none'})")
        return [*lines, *self._size_lines(), *self._duplicate_lines()]

    def _size_lines(self) -> list[str]:
        """Objects by size, the root of their box's area, between the sizes of the anchors."""
        total = sum(self.sizes.values())
        if not total:
            return []
        edges = [f"below {self.anchors[0]:g}", *(f"from {anchor:g}" for anchor in self.anchors)]
        counts = [self.sizes[place] for place in range(-1, len(self.anchors))]
        lines = ["sizes on the canvas, in pixels: " + ", ".join(f"{e} {n}" for e, n in zip(edges, counts, strict=True))]
        if counts[0]:
            lines.append(
                f"  {counts[0]} of {total} objects are smaller than the smallest anchor, {self.anchors[0]:g} pixels "
                "(backbone.anchor_sizes)"
            )
        return lines

    def _duplicate_lines(self) -> list[str]:
        """Pictures that are in two splits, to the pixel: what is measured on them was learned by heart."""
        both = [found for found in self.seen.values() if len({split for split, _ in found}) > 1]
        if not both:
            return []
        lines = [f"{len(both)} pictures are in two splits, the same to the pixel"]
        lines += ["  " + " = ".join(f"{name} ({split})" for split, name in found) for found in both[:SHOWN]]
        return lines + ([f"  and {len(both) - SHOWN} more"] if len(both) > SHOWN else [])


def summarize(source: Source, params: Params) -> tuple[Summary, InputError | None]:
    """Reads a whole set, or all up to what refuses it.

    Args:
        source: the set.
        params: for the canvas and the anchors.

    Returns:
        The counts, and the error that ended the reading early.
    """
    summary = Summary(source.classes, tuple(sorted(params.backbone.anchor_sizes)))
    try:
        for sample in source:
            height, width = sample.image.shape[:2]
            summary.add(sample, Letterbox.from_params(params.prepare, height, width))
    except InputError as error:
        return summary, error
    return summary, None

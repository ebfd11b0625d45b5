"""Pictures as figures show them: as they are, or smaller where they have more pixels than a figure does."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import Tensor

from src.structures.masks import Masks, Rle, decode_masks
from src.structures.sample import Sample

LARGEST_SIDE: Final = 1400  # pixels of a picture as it is drawn; the figure itself has at most 1320 either way
LARGEST_PANEL: Final = 700  # of one of several pictures in a figure

Boxes = TypeVar("Boxes", np.ndarray, Tensor)


@dataclass(frozen=True)
class View:
    """A picture of `height` x `width` own pixels, drawn in `rows` x `columns`."""

    height: int
    width: int
    rows: int
    columns: int

    @classmethod
    def of(cls, height: int, width: int, *, largest: int = LARGEST_SIDE) -> View:
        """The picture as it is, or with a longer side of `largest`."""
        scale = min(1.0, largest / max(height, width))
        return cls(height, width, max(1, round(height * scale)), max(1, round(width * scale)))

    @property
    def _is_whole(self) -> bool:
        return (self.rows, self.columns) == (self.height, self.width)

    def picture(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "rows columns 3"]:
        """The picture as it is drawn."""
        if self._is_whole:
            return picture
        return np.asarray(Image.fromarray(picture).resize((self.columns, self.rows), Image.Resampling.BILINEAR))

    def boxes(self, boxes: Boxes) -> Boxes:
        """Boxes [n, 4] of the picture, where they are drawn."""
        if self._is_whole:
            return boxes
        scale = [self.columns / self.width, self.rows / self.height] * 2
        return boxes * (boxes.new_tensor(scale) if isinstance(boxes, Tensor) else np.asarray(scale, boxes.dtype))

    def masks(self, codes: Sequence[Rle]) -> Bool[np.ndarray, "n rows columns"]:
        """Masks of the picture as they are drawn: a pixel is in one where at least half of its area is.

        One after another, so that memory does not grow with their number.
        """
        masks = np.zeros((len(codes), self.rows, self.columns), bool)
        for row, code in enumerate(codes):
            mask = decode_masks([code], self.height, self.width)[0]
            if not self._is_whole:
                shares = Image.fromarray(mask.astype(np.uint8) * 255)
                mask = np.asarray(shares.resize((self.columns, self.rows), Image.Resampling.BOX)) >= 128
            masks[row] = mask
        return masks


def drawn_sample(sample: Sample) -> Sample:
    """A sample as one of several in a figure."""
    height, width = sample.image.shape[:2]
    view = View.of(height, width, largest=LARGEST_PANEL)
    return dataclasses.replace(
        sample,
        image=view.picture(sample.image),
        boxes=view.boxes(sample.boxes),
        masks=Masks.from_pixels(view.masks(sample.masks.codes)),
        unlabeled_boxes=view.boxes(sample.unlabeled_boxes),
        file=None,
    )

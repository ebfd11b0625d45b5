"""Where a picture lies on the padded canvas (task 9), and the way back: the one place that knows either direction.

A picture of any size is resized once, as large as `height` x `width` allows, its aspect kept, and centered between
black bars. The course's 300 x 400 pictures become 800 x 1066 in 800 x 1088, so that x -> x * 1066 / 400 + 11 and
y -> y * 800 / 300. Evaluation, prediction and figures use the inverse given here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from src.core.params import PrepareParams
from src.structures.masks import Masks

ImageRegion: TypeAlias = tuple[float, float, float, float]  # x1 y1 x2 y2 of a picture on the canvas, pixels
Boxes = TypeVar("Boxes", np.ndarray, Tensor)


@dataclass(frozen=True)
class Frame:
    """The canvas of a run: `height` x `padded_width` pixels, of which a picture takes at most `height` x `width`."""

    height: int
    width: int
    padded_width: int

    @classmethod
    def from_params(cls, prepare: PrepareParams) -> Frame:
        """The canvas that `params.yaml` asks for."""
        return cls(prepare.height, prepare.width, prepare.padded_width)

    def letterbox(self, source_height: int, source_width: int) -> Letterbox:
        """Where a picture of a given size lies on it."""
        return Letterbox(self.height, self.width, self.padded_width, source_height, source_width)


@dataclass(frozen=True)
class Letterbox:
    """A picture of `source_height` x `source_width` on a canvas of `height` x `padded_width` pixels.

    Attributes:
        height: of the canvas, and the largest height of the picture on it.
        width: the largest width of the picture on it.
        padded_width: of the canvas.
        source_height: of the picture as it came.
        source_width: of the picture as it came.
    """

    height: int
    width: int
    padded_width: int
    source_height: int
    source_width: int

    @classmethod
    def from_params(cls, prepare: PrepareParams, source_height: int, source_width: int) -> Letterbox:
        """The letterbox that `params.yaml` asks for, for pictures of a given size."""
        return Frame.from_params(prepare).letterbox(source_height, source_width)

    @property
    def _is_wide(self) -> bool:
        """Whether the width limits the size. Whole numbers: 799.5 must round up to 800 whatever the last bit says."""
        return self.source_width * self.height >= self.source_height * self.width

    @property
    def resized_height(self) -> int:
        """Height of the picture on the canvas."""
        if not self._is_wide:
            return self.height
        return max(1, (2 * self.source_height * self.width + self.source_width) // (2 * self.source_width))

    @property
    def resized_width(self) -> int:
        """Width of the picture on the canvas."""
        if self._is_wide:
            return self.width
        return max(1, (2 * self.source_width * self.height + self.source_height) // (2 * self.source_height))

    @property
    def scale_x(self) -> float:
        """Canvas pixels a source pixel, horizontally."""
        return self.resized_width / self.source_width

    @property
    def scale_y(self) -> float:
        """Canvas pixels a source pixel, vertically."""
        return self.resized_height / self.source_height

    @property
    def left(self) -> int:
        """Black columns before the picture."""
        return (self.padded_width - self.resized_width) // 2

    @property
    def top(self) -> int:
        """Black rows above the picture."""
        return (self.height - self.resized_height) // 2

    @property
    def region(self) -> ImageRegion:
        """x1 y1 x2 y2 of the picture on the canvas: ImageList's size before the padding (task 10)."""
        right, bottom = self.left + self.resized_width, self.top + self.resized_height
        return float(self.left), float(self.top), float(right), float(bottom)

    def boxes_to_canvas(self, boxes: Boxes) -> Boxes:
        """Moves boxes [n, 4] (x1 y1 x2 y2, numpy or torch) from the picture to the canvas."""
        scale, shift = self._like(boxes)
        return boxes * scale + shift

    def boxes_to_source(self, boxes: Boxes) -> Boxes:
        """The inverse of `boxes_to_canvas`. Does not clip."""
        scale, shift = self._like(boxes)
        return (boxes - shift) / scale

    def image_to_canvas(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "height padded_width 3"]:
        """Resizes bilinearly (averaging where the picture shrinks) and centers between black bars.

        Straight from the decoded pixels: a JPEG's own reduced decoding would save a third of a second at 48 megapixels
        and give other pixels.

        Raises:
            ValueError: the picture has another size than this letterbox's source.
        """
        self._check(image.shape[:2])
        resized = Image.fromarray(image).resize((self.resized_width, self.resized_height), Image.Resampling.BILINEAR)
        canvas = np.zeros((self.height, self.padded_width, 3), np.uint8)
        canvas[self._inside] = np.asarray(resized)
        return canvas

    def masks_to_canvas(self, masks: Masks | Bool[np.ndarray, "n h w"]) -> Bool[np.ndarray, "n height padded_width"]:
        """Resizes masks bilinearly, one after another, and keeps what is at least half covered.

        Raises:
            ValueError: the masks have another size than this letterbox's source.
        """
        self._check((masks.height, masks.width) if isinstance(masks, Masks) else masks.shape[1:])
        canvas = np.zeros((len(masks), self.height, self.padded_width), bool)
        for mask, target in zip(masks, canvas, strict=True):
            rows = np.ascontiguousarray(mask).astype(np.float32)  # three times as fast as from run lengths' columns
            soft = _resize(torch.from_numpy(rows)[None], (self.resized_height, self.resized_width))
            target[self._inside] = (soft[0] >= 0.5).numpy()
        return canvas

    @property
    def _inside(self) -> tuple[slice, slice]:
        """Rows and columns of the picture on the canvas."""
        return slice(self.top, self.top + self.resized_height), slice(self.left, self.left + self.resized_width)

    def _check(self, size: tuple[int, ...]) -> None:
        if size != (self.source_height, self.source_width):
            raise ValueError(f"expected a picture of {self.source_height} x {self.source_width}, found {size}")

    def _like(self, boxes: Boxes) -> tuple[Boxes, Boxes]:
        """Scale and shift of x1 y1 x2 y2, of the boxes' own kind."""
        scale = [self.scale_x, self.scale_y] * 2
        shift = [self.left, self.top] * 2
        if isinstance(boxes, Tensor):
            return boxes.new_tensor(scale), boxes.new_tensor(shift)
        return np.asarray(scale, boxes.dtype), np.asarray(shift, boxes.dtype)


def _resize(masks: Float[Tensor, "n h w"], size: tuple[int, int]) -> Float[Tensor, "n h2 w2"]:
    """Bilinear resizing with half-pixel centers; averages where it shrinks."""
    if len(masks) == 0:
        return masks.new_zeros((0, *size))
    shrinks = size[0] < masks.shape[1] or size[1] < masks.shape[2]
    return F.interpolate(masks[None], size=size, mode="bilinear", align_corners=False, antialias=shrinks)[0]

"""The masks of one picture as COCO's compressed run lengths, which weigh what their outlines do, not what pixels do.

A hundred masks of a phone's photo would take gigabytes as pixels. Here they are decoded one at a time, when asked for.
The run lengths are those of faster-coco-eval, and so of every published set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from faster_coco_eval.core import mask as mask_api
from jaxtyping import Bool
from torch import Tensor

Rle: TypeAlias = dict[str, Any]  # {"size": [height, width], "counts": text}, as in COCO's json files


@dataclass(frozen=True)
class Masks:
    """Masks of one picture: a sequence that gives pixels, bool [height, width], one mask at a time.

    Attributes:
        height: of the picture, pixels.
        width: of the picture, pixels.
        codes: the run lengths of each mask.
    """

    height: int
    width: int
    codes: tuple[Rle, ...] = ()

    @classmethod
    def from_pixels(cls, pixels: Bool[np.ndarray, "n h w"]) -> Masks:
        """Encodes masks."""
        _, height, width = pixels.shape
        return cls(height, width, tuple(encode_masks(pixels)))

    @classmethod
    def from_counts(cls, height: int, width: int, counts: Iterable[str]) -> Masks:
        """Masks whose run lengths are known, as the texts of `counts`."""
        return cls(height, width, tuple({"size": [height, width], "counts": text} for text in counts))

    @property
    def counts(self) -> list[str]:
        """The run lengths of each mask as text, without the size."""
        return [code["counts"] for code in self.codes]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int) -> Bool[np.ndarray, "h w"]:
        return decode_masks([self.codes[index]], self.height, self.width)[0]

    def __iter__(self) -> Iterator[Bool[np.ndarray, "h w"]]:
        return (self[index] for index in range(len(self)))

    def keep(self, chosen: Bool[np.ndarray, " n"]) -> Masks:
        """The masks that `chosen` picks, in the same order."""
        return Masks(self.height, self.width, tuple(self.codes[index] for index in np.flatnonzero(chosen)))

    def pixels(self) -> Bool[np.ndarray, "n h w"]:
        """All of them at once."""
        return decode_masks(self.codes, self.height, self.width)


def encode_masks(masks: Bool[Tensor, "n h w"] | Bool[np.ndarray, "n h w"]) -> list[Rle]:
    """Run lengths of each mask, ready for json.

    Raises:
        ValueError: masks are not three-dimensional.
    """
    pixels = np.asarray(masks)
    pixels = pixels.view(np.uint8) if pixels.dtype == bool else pixels.astype(np.uint8)
    if pixels.ndim != 3:
        raise ValueError(f"masks: expected [n, height, width], found shape {pixels.shape}")
    if not len(pixels):
        return []
    codes = mask_api.encode(np.asfortranarray(pixels.transpose(1, 2, 0)))
    return [{"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")} for code in codes]


def decode_masks(codes: Sequence[Rle], height: int, width: int) -> Bool[np.ndarray, "n h w"]:
    """The masks of run lengths; `height` and `width` give the empty result its shape.

    Raises:
        ValueError: a mask has another size.
    """
    if not codes:
        return np.zeros((0, height, width), bool)
    sizes = {tuple(code["size"]) for code in codes}
    if sizes != {(height, width)}:
        raise ValueError(f"masks: expected size {(height, width)}, found {sorted(sizes)}")
    return mask_api.decode(list(codes)).view(bool).transpose(2, 0, 1)  # column by column, as run lengths count

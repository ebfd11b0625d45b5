"""Pictures with what is known of each, as many as fit a number of bytes: what the report's explorer shows."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from src.core.files import write_text
from src.figures.view import View

SIDES: Final = (1000, 800, 600, 400, 300)  # pixels of a picture's longer side, the first that fits
QUALITY: Final = 85  # of WebP
LEAST: Final = 12_000  # bytes of a picture: where each has less, some are left out rather than all made smaller


class Album:
    """Gathers pictures until its bytes are used up.

    Args:
        room: bytes of all that is written.
        expected: how many pictures will come, so that each has its share.
    """

    def __init__(self, room: int, expected: int) -> None:
        self.pictures: list[dict[str, Any]] = []
        self.left_out = 0
        self._share, self._room = max(LEAST, room // max(expected, 1)), room

    @property
    def is_full(self) -> bool:
        """Whether a picture was left out already; later ones are too, so that those shown are the first ones."""
        return self.left_out > 0

    def add(self, picture: UInt8[np.ndarray, "h w 3"], known: Mapping[str, Any]) -> None:
        """Takes in a picture with what is known of it, or counts it as left out."""
        size = len(to_json(known))
        entry = {**known, "picture": encode(picture, max(LEAST, self._share - size))}
        used = size + len(entry["picture"])
        if self.is_full or used > self._room:
            self.leave_out(1)
        else:
            self._room -= used
            self.pictures.append(entry)

    def leave_out(self, count: int) -> None:
        """Counts pictures that there is no use in reading any more."""
        self.left_out += count

    def write(self, path: Path, **facts: Any) -> None:
        """Writes the pictures and facts about them as json, atomically."""
        write_text(path, to_json({**facts, "pictures": self.pictures, "left_out": self.left_out}))


def to_json(tree: Any) -> str:
    """Compact, since a page carries every space, and in ASCII, since a file's name may be no valid text."""
    return json.dumps(tree, separators=(",", ":"), allow_nan=False)


def encode(picture: UInt8[np.ndarray, "h w 3"], most: int) -> str:
    """A picture as a data URL of at most `most` characters, made smaller for that down to the last of `SIDES`."""
    height, width = picture.shape[:2]
    for view in dict.fromkeys(View.of(height, width, largest=side) for side in SIDES):
        buffer = io.BytesIO()
        Image.fromarray(view.picture(picture)).save(buffer, "WEBP", quality=QUALITY)
        text = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        if len(text) <= most:
            break
    return text

"""Reads a person's own picture, of whatever size and mode, as RGB (task 18)."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from src.core.errors import invalid, one_line
from src.data.decoding import HAS_AVIF, HAS_HEIF, HEIF_SUFFIXES, NEEDS_HEIF, decode, opened

logger = logging.getLogger(__name__)

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *((".avif",) if HAS_AVIF else ()),
    *(HEIF_SUFFIXES if HAS_HEIF else ()),
)
HOLD_OUT_SUFFIX = ".npz"  # the course's hold-out images: several pictures in one file


def read_picture(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes the first frame, upright by its EXIF orientation, transparency over white.

    Raises:
        InputError: the file is missing, no picture, broken, or larger than `LARGEST` pixels, or its name is no text.
    """
    if not path.is_file():
        raise invalid(path, "a picture", "a folder" if path.is_dir() else "no such file")
    if any("\ud800" <= character <= "\udfff" for character in path.name):  # bytes that Python could not decode
        raise invalid(path, "a file name in UTF-8", ascii(path.name))
    with opened(path) as picture:
        return decode(picture)


def list_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder by name, hold-out images among them.

    Other files are passed over, HEIC with a warning where it cannot be read.
    """
    if not folder.is_dir():
        return []
    if not HAS_HEIF:
        for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in HEIF_SUFFIXES):
            logger.warning("%s: passed over; %s", one_line(path), NEEDS_HEIF)
    suffixes = (*SUFFIXES, HOLD_OUT_SUFFIX)
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.is_file())

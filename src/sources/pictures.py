"""Reads a person's own picture, of whatever size and mode, as RGB (task 18).

Only the formats below are opened: PIL knows others that start programs (PostScript's) or that hardly anybody tests.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from src.core.errors import InputError, invalid

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
LARGEST = 150_000_000  # pixels; beyond, a file is taken for a decompression bomb. PIL's own limit is 179 million

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs of a broken file, the complaint says too


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Opens a picture; whatever its bytes do to PIL inside the block becomes one line.

    Raises:
        InputError: the file is no picture, broken, or larger than `LARGEST` pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as picture:
                _check_size(picture, path)
                yield picture
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise invalid(path, f"at most {LARGEST:,} pixels", str(error)) from None
    except Exception as error:  # noqa: BLE001 - a broken file may make PIL raise anything
        raise invalid(path, "a picture that can be read", f"{type(error).__name__}: {error}") from None


def _check_size(picture: Image.Image, path: Path) -> None:
    width, height = picture.size
    if width * height > LARGEST:
        raise invalid(path, f"at most {LARGEST:,} pixels", f"{width} x {height}")


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
        return to_rgb(ImageOps.exif_transpose(picture))


def is_deep(picture: Image.Image) -> bool:
    """Whether it is gray with more than 8 bits, which PIL's own conversion would cut off at 255."""
    return picture.mode.startswith("I") or picture.mode == "F"


def to_rgb(picture: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """RGB of any mode; 16-bit grays are scaled to 8 bits, transparency lies over white."""
    if is_deep(picture):
        gray = np.asarray(picture, dtype=np.float64)
        top = 255.0 if gray.max(initial=0) <= 255 else 65535.0
        return np.repeat(np.clip(np.rint(gray * (255.0 / top)), 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(ground, picture)
    return np.asarray(picture.convert("RGB"))


def list_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder by name; other files are passed over."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())

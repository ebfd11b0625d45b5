"""Reads a person's own picture, of whatever size and mode, as RGB (task 18).

Only the formats below are opened: PIL knows others that start programs (PostScript's) or that hardly anybody tests.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from src.core.errors import InputError, invalid, one_line

logger = logging.getLogger(__name__)

try:
    from pillow_heif import register_heif_opener
except ImportError:
    HAS_HEIF = False
else:
    register_heif_opener()
    HAS_HEIF = True
HAS_AVIF = find_spec("PIL.AvifImagePlugin") is not None  # from Pillow 11.3 on

HEIF_SUFFIXES = (".heic", ".heif")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *((".avif",) if HAS_AVIF else ()),
    *(HEIF_SUFFIXES if HAS_HEIF else ()),
)
HOLD_OUT_SUFFIX = ".npz"  # the course's hold-out images: several pictures in one file
# A JPEG may hold several pictures (MPO); its reader sees to that.
FORMATS = (
    *("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"),
    *(("AVIF",) if HAS_AVIF else ()),
    *(("HEIF",) if HAS_HEIF else ()),
)
NEEDS_HEIF = "HEIC needs the package pillow-heif: .venv/bin/pip install pillow-heif"
DEPTHS = (8, 10, 12, 14, 16)  # bits of gray that cameras and microscopes store in 16
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
        lacking = f" ({NEEDS_HEIF})" if path.suffix.lower() in HEIF_SUFFIXES and not HAS_HEIF else ""
        raise invalid(path, "a picture that can be read" + lacking, f"{type(error).__name__}: {error}") from None


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
    """RGB of any mode; grays of more than 8 bits are scaled by their range, transparency lies over white."""
    if is_deep(picture):
        return np.repeat(gray_to_bytes(np.asarray(picture))[..., None], 3, axis=2)
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(ground, picture)
    return np.asarray(picture.convert("RGB"))


def gray_to_bytes(gray: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """Gray of any depth in 0 to 255.

    Whole numbers are scaled by the fewest bits of `DEPTHS` that hold the largest, floats from 0 to 1 or to 255. What is
    negative or larger is scaled from its least to its largest value. NaN is black, infinity the largest or least.

    Args:
        gray: [h, w], of any number type.
    """
    values = np.nan_to_num(np.asarray(gray, np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    finite = values[np.isfinite(values)]
    low, high = finite.min(initial=0.0), finite.max(initial=0.0)
    tops = (1.0, 255.0) if np.issubdtype(gray.dtype, np.floating) else [2.0**bits - 1 for bits in DEPTHS]
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is not None:
        low, high = 0.0, top
    return np.rint((np.clip(values, low, high) - low) * (255.0 / (high - low))).astype(np.uint8)


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

"""From a picture's file to pixels: RGB, upright, 8 bits, whatever format and mode the file has.

Sets and own pictures are decoded here, and so are the files that the dataset file keeps: training, evaluation and
prediction see the same pixels. Only the formats below are opened: PIL knows others that start programs (PostScript's)
or that hardly anybody tests.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from src.core.errors import InputError, invalid
from src.structures.sample import PictureFile

try:
    from pillow_heif import register_heif_opener
except ImportError:
    HAS_HEIF = False
else:
    register_heif_opener()
    HAS_HEIF = True
HAS_AVIF = find_spec("PIL.AvifImagePlugin") is not None  # from Pillow 11.3 on

HEIF_SUFFIXES = (".heic", ".heif")
# A JPEG may hold several pictures (MPO); its reader sees to that.
FORMATS = (
    *("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"),
    *(("AVIF",) if HAS_AVIF else ()),
    *(("HEIF",) if HAS_HEIF else ()),
)
NEEDS_HEIF = "HEIC needs the package pillow-heif: .venv/bin/pip install pillow-heif"
DEPTHS = (8, 10, 12, 14, 16)  # bits of gray that cameras and microscopes store in 16
LARGEST = 150_000_000  # pixels; beyond, a file is taken for a decompression bomb. PIL's own limit is 179 million
LARGEST_WEBP: Final = 16_383  # pixels a side

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs of a broken file, the complaint says too


@contextmanager
def opened(source: Path | PictureFile, place: Path | None = None, index: int | None = None) -> Iterator[Image.Image]:
    """Opens a picture; whatever its bytes do to PIL inside the block becomes one line.

    Args:
        source: where the bytes are.
        place: the file named in complaints, where `source` is none itself.
        index: the entry of that file, where it has several.

    Raises:
        InputError: the file is no picture, broken, or larger than `LARGEST` pixels.
    """
    where = source if isinstance(source, Path) else place or Path("a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = source if isinstance(source, Path) else io.BytesIO(source.content)
            with Image.open(file, formats=FORMATS) as picture:
                _check_size(picture, where, index)
                yield picture
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise invalid(where, f"at most {LARGEST:,} pixels", str(error), index) from None
    except Exception as error:  # noqa: BLE001 - a broken file may make PIL raise anything
        lacking = f" ({NEEDS_HEIF})" if where.suffix.lower() in HEIF_SUFFIXES and not HAS_HEIF else ""
        found = f"{type(error).__name__}: {error}"
        raise invalid(where, "a picture that can be read" + lacking, found, index) from None


def _check_size(picture: Image.Image, where: Path, index: int | None) -> None:
    width, height = picture.size
    if width * height > LARGEST:
        raise invalid(where, f"at most {LARGEST:,} pixels", f"{width} x {height}", index)


def decode(picture: Image.Image, *, as_stored: bool = False) -> UInt8[np.ndarray, "h w 3"]:
    """RGB of a picture's first frame, upright by its EXIF orientation unless it is meant as it is stored."""
    return to_rgb(picture if as_stored else ImageOps.exif_transpose(picture))


def encode(image: UInt8[np.ndarray, "h w 3"]) -> PictureFile:
    """A file of pixels that have none, without loss: lossless WebP, half the time and four fifths the bytes of PNG."""
    content = io.BytesIO()
    if max(image.shape[:2]) <= LARGEST_WEBP:
        Image.fromarray(image).save(content, "WEBP", lossless=True, exact=True, method=0, quality=0)
    else:
        Image.fromarray(image).save(content, "PNG", compress_level=1)
    return PictureFile(content.getvalue())


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

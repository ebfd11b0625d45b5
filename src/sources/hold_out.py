"""The course's hold-out images (task 18): `hold_out_images.npz`, pictures that are normalized and padded already.

Its `input_images` are float32 [1, 3, 800, 1088] each, in an object array or stacked in a plain one. Normalization is
undone, and the padding cut off, so that they go the way of every other picture, with at most half a gray level between.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import UInt8

from src.core.errors import invalid
from src.sources.pickles import LARGEST, parse_arrays
from src.sources.pictures import HOLD_OUT_SUFFIX, read_picture

IMAGES: Final = "input_images"
MEAN: Final = np.array(
    (0.485, 0.456, 0.406), np.float32
)  # the assignment's, of RGB in 0..1, whatever prepare.mean says
STD: Final = np.array((0.229, 0.224, 0.225), np.float32)
PADDED: Final = (800, 1088)  # rows and columns of an image with its padding
MARGIN: Final = 11  # columns of padding on either side


def read_pictures(path: Path) -> list[tuple[str, UInt8[np.ndarray, "h w 3"]]]:
    """The pictures of a file with their names: one and the file's own, or the hold-out images, numbered from 0.

    Raises:
        InputError: the file is missing, no picture, broken or too large.
    """
    if path.suffix.lower() != HOLD_OUT_SUFFIX:
        return [(path.name, read_picture(path))]
    return [(f"{path.stem}-{number}", to_picture(array)) for number, array in enumerate(_read_images(path))]


def to_picture(array: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """RGB of a normalized image [3, h, w], without its padding where it has one."""
    if array.shape[1:] == PADDED and not array[..., :MARGIN].any() and not array[..., -MARGIN:].any():
        array = array[..., MARGIN:-MARGIN]
    values = array.astype(np.float32).transpose(1, 2, 0) * STD + MEAN
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _read_images(path: Path) -> list[np.ndarray]:
    """The normalized images, [3, h, w] each, all of them checked."""
    place = f"{path}/{IMAGES}"
    arrays = []
    for index, entry in enumerate(parse_arrays(_read_member(path), place)):
        array = entry[0] if entry.ndim == 4 and len(entry) == 1 else entry
        if array.dtype.kind != "f" or array.ndim != 3 or len(array) != 3 or not array.size:
            found = f"{entry.dtype} of shape {entry.shape}"
            raise invalid(place, "normalized floats of shape (1, 3, height, width)", found, index)
        if not np.isfinite(array).all():
            raise invalid(place, "finite numbers", "NaN or infinity", index)
        arrays.append(array)
    if not arrays:
        raise invalid(place, "images", "none")
    return arrays


def _read_member(path: Path) -> bytes:
    """The bytes of `input_images.npy` in the archive; nothing is unpacked to the disk."""
    if not path.is_file():
        raise invalid(path, "hold-out images", "a folder" if path.is_dir() else "no such file")
    member, content = f"{IMAGES}.npy", b""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if member in names:
                with archive.open(member) as file:
                    content = file.read(LARGEST + 1)
    except Exception as error:  # noqa: BLE001 - a broken archive may make zipfile raise anything
        raise invalid(path, "an .npz archive that can be read", f"{type(error).__name__}: {error}") from None
    if member not in names:
        raise invalid(path, f"the course's hold-out images, an array '{IMAGES}'", ", ".join(names) or "nothing")
    if len(content) > LARGEST:
        raise invalid(path, f"at most {LARGEST:,} bytes in '{IMAGES}'", "more")
    return content

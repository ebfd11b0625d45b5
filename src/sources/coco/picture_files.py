"""Where the file of an image entry is, and its pixels in the frame that the json's coordinates mean.

Tools write file names with folders in them, with backslashes, as addresses, or with `%20` for a space. The file is
looked for under the whole name first, then without its leading folders, and never outside the image folder but by a
link: those are followed below `data.root` and into a store of its own, which is a folder beside it, the cache of the
DVC or git-annex repository that it lies in, or `data.coco.store`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath

import numpy as np
from jaxtyping import UInt8

from src.core.errors import brief, invalid
from src.data.decoding import decode, opened
from src.sources.left_out import FORBIDDEN_LINK, MALFORMED, NO_FILE, OTHER_SIZE, EntryError
from src.structures.sample import PictureFile

DEEPEST = 16  # folders of a file name that are looked at
ORIENTATION = 0x0112  # EXIF's tag
TURNED = range(5, 9)  # its values with which height and width change places
LARGEST_FILE = 2**30  # bytes: 150 million pixels of 16 bits, uncompressed
STORES = (Path(".dvc/cache"), Path(".git/annex/objects"))  # of the repositories that a folder lies in


@dataclass(frozen=True)
class ImageFolder:
    """A folder of pictures, and the places into which links in it may lead.

    Attributes:
        path: the folder.
        stores: resolved folders, itself among them.
        beside: whose visible folders are stores too; None where that would be a home or a whole disk.
    """

    path: Path
    stores: tuple[Path, ...]
    beside: Path | None = None

    def admits(self, place: Path) -> bool:
        """Whether a picture may lie at a resolved place."""
        if any(place.is_relative_to(store) for store in self.stores):
            return True
        if self.beside is None or not place.is_relative_to(self.beside):
            return False
        folder, *inside = place.relative_to(self.beside).parts
        return bool(inside) and not folder.startswith(".")


def image_folder(path: Path, root: Path, store: str, *, strict: bool) -> ImageFolder:
    """The image folder `path` of the set in `root`; read strictly, links may not leave it.

    Args:
        path: the folder, which may be a link itself.
        root: `data.root`.
        store: `data.coco.store`; relative to `root`, empty for none.
        strict: `data.strict`.
    """
    if strict:
        return ImageFolder(path, (path.resolve(),))
    home, above = root.resolve(), dict.fromkeys([root.absolute(), *root.absolute().parents, *root.resolve().parents])
    stores = [path.resolve(), home, *((folder / name).resolve() for folder in above for name in STORES)]
    if store:
        stores.append((root / Path(store).expanduser()).resolve())
    too_wide = home.parent in (Path(home.anchor), Path.home())
    return ImageFolder(path, tuple(stores), None if too_wide else home.parent)


def find_picture(folder: ImageFolder, name: str, *, strict: bool) -> Path:
    """The file of an image entry.

    Args:
        folder: where to look.
        name: its `file_name`.
        strict: take the name as it is.

    Raises:
        EntryError: there is none, the name leads out of the folder, or a link to where none may (`FORBIDDEN_LINK`).
    """
    if strict and not _is_inside(name):
        raise EntryError(MALFORMED, "a file_name inside the image folder", brief(name))
    names: list[PurePath] = [Path(name)] if _is_inside(name) else []
    for candidate in names if strict else [*names, *_other_names(name)]:
        try:
            place = (folder.path / candidate).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):  # none, too long for the disk, links in a circle, a NUL
            continue
        if not folder.admits(place):
            expected = f"the image '{folder.path / candidate}'"
            if not strict:
                expected += " below data.root, in a folder beside it, or in data.coco.store"
            raise EntryError(FORBIDDEN_LINK, expected, f"a link out of its folder, to '{place}'")
        if place.is_file():
            return folder.path / candidate
    raise EntryError(NO_FILE, f"the image '{folder.path / name}'", "no such file")


def _is_inside(name: str) -> bool:
    path = PureWindowsPath(name)  # knows both kinds of separators, and drives
    return not (path.drive or path.root or ".." in path.parts)


def _other_names(name: str) -> Iterator[PurePath]:
    """Names that a tool may have meant, the longest first; none leads out of a folder."""
    for text in dict.fromkeys((name, _decoded(name))):
        path = PureWindowsPath(text)
        parts = [part for part in path.parts if part != path.anchor][-DEEPEST:]
        while ".." in parts:
            parts = parts[parts.index("..") + 1 :]
        for start in range(len(parts)):
            yield PurePath(*parts[start:])


def _decoded(name: str) -> str:
    """`a%20b.jpg` as `a b.jpg`; as it is where that is no text."""
    plain = re.sub(rb"%([0-9a-fA-F]{2})", lambda match: bytes.fromhex(match[1].decode()), name.encode())
    try:
        return plain.decode()
    except UnicodeDecodeError:
        return name


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture, upright by its EXIF orientation, from its header.

    Raises:
        InputError: it is no picture, broken, or too large for memory.
    """
    with opened(path) as stored:
        width, height = stored.size
        return (width, height) if stored.getexif().get(ORIENTATION, 1) in TURNED else (height, width)


def read_rgb(path: Path, height: int, width: int, *, strict: bool) -> tuple[UInt8[np.ndarray, "h w 3"], PictureFile]:
    """Reads a picture of known size.

    Args:
        path: the file.
        height: as the json says.
        width: as the json says.
        strict: refuse a picture that has this size only before its EXIF entry turns it.

    Returns:
        The pixels, turned as the EXIF entry says, or as they are stored where that alone fits; and the file.

    Raises:
        InputError: it is missing, broken, or too large for memory.
        EntryError: it has another size.
    """
    file = _read_file(path)
    with opened(file, path) as stored:
        found = stored.size  # known before the pixels are decoded
        if sorted(found) == sorted((width, height)):
            is_turned = stored.getexif().get(ORIENTATION, 1) in TURNED
            found = found[::-1] if is_turned else found
            as_stored = found != (width, height) and not strict
            if found == (width, height) or as_stored:
                return decode(stored, as_stored=as_stored), PictureFile(file.content, as_stored)
    raise EntryError(OTHER_SIZE, f"{width} x {height} pixels, as the json says", "{} x {}".format(*found))


def _read_file(path: Path) -> PictureFile:
    """The bytes of a file.

    Raises:
        InputError: there is none, it cannot be read, or it is too large for memory.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise invalid(path, f"at most {LARGEST_FILE:,} bytes", f"{size:,}")
        return PictureFile(path.read_bytes())
    except OSError as error:
        raise invalid(path, "a picture that can be read", f"{type(error).__name__}: {error}") from None

"""The pictures of a set, each with its file: what is known before any pixel is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from src.core.errors import InputError, invalid
from src.sources.coco.annotations import Picture
from src.sources.coco.picture_files import ImageFolder, find_picture, read_size
from src.sources.left_out import (
    FORBIDDEN_LINK,
    IMAGES,
    MALFORMED,
    REPEATED,
    UNREADABLE,
    EntryError,
    Findings,
    LeftOut,
)


@dataclass(frozen=True)
class ListedPicture:
    """A picture with its file.

    Attributes:
        entry: with its height and width, also where the json does not say them.
        file: which is there.
        name: as the data set calls it.
        mended: what the entry needed for that, e.g. `("size from the picture",)`.
    """

    entry: Picture
    file: Path
    name: str
    mended: tuple[str, ...] = ()


def list_pictures(
    instances: Path, folder: ImageFolder, pictures: Sequence[Picture], limit: int, *, strict: bool
) -> tuple[list[ListedPicture], Findings]:
    """Finds the file of each picture.

    Args:
        instances: the json named in complaints.
        folder: where the files are.
        pictures: the usable entries of the json.
        limit: how many to find; the entries after them are not looked at.
        strict: raise at the first picture without a file.

    Returns:
        The pictures, and what was met; entries that were not looked at are not counted.

    Raises:
        InputError: a link leads where none may; read strictly, also a picture without a file.
    """
    listed: dict[Path, ListedPicture] = {}
    left_out: list[LeftOut] = []
    for picture in pictures:
        if len(listed) == limit:
            break
        found = _try(instances, folder, picture, listed, strict=strict)
        if isinstance(found, LeftOut):
            left_out.append(found)
        else:
            listed[found.file] = found
    mended = Counter(text for picture in listed.values() for text in picture.mended)
    return list(listed.values()), Findings(len(listed) + len(left_out), 0, tuple(left_out), mended)


def _try(
    instances: Path, folder: ImageFolder, picture: Picture, taken: Collection[Path], *, strict: bool
) -> ListedPicture | LeftOut:
    """The picture with its file, or why it has none."""
    try:
        found = _locate(folder, picture, strict=strict)
        _check_once(found.file, taken)
    except EntryError as error:
        index = picture.file_name if strict and error.reason != MALFORMED else picture.entry
        complaint = invalid(instances, error.expected, error.found, index)
        if strict or error.reason == FORBIDDEN_LINK:
            raise complaint from None
        return LeftOut(IMAGES, str(instances), picture.entry, error.reason, complaint.detail)
    except InputError as error:  # of a picture that should have told its size
        return LeftOut(IMAGES, str(folder.path / picture.file_name), picture.entry, UNREADABLE, error.detail)
    return found


def _locate(folder: ImageFolder, picture: Picture, *, strict: bool) -> ListedPicture:
    file, mended, name = find_picture(folder, picture.file_name, strict=strict), [], picture.file_name
    if file != folder.path / name:
        mended.append("file_name with other folders")
        name = file.relative_to(folder.path).as_posix()
    if not picture.height:
        mended.append("size from the picture")
        height, width = read_size(file)
        picture = replace(picture, height=height, width=width)
    return ListedPicture(picture, file, name, tuple(mended))


def _check_once(file: Path, taken: Collection[Path]) -> None:
    if file in taken:
        raise EntryError(REPEATED, "each picture once", f"'{file}' again")

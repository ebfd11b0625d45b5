"""The pictures that a person names on the command line, and where each one's results go (task 18).

Names come through make as one text: `IMAGE="a.jpg b.jpg"`, `IMAGE="my photo.jpg"` and `IMAGE=folder` are all told
apart by what is there.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from src.core.errors import invalid
from src.sources.pictures import list_pictures

LONGEST_NAME: Final = 180  # bytes; disks take 255, and an ending and a temporary file's marks are added


def find_pictures(texts: Sequence[str]) -> list[Path]:
    """The pictures that are named, each once, in that order; of a folder, those in it by name.

    Args:
        texts: each a path or several with spaces between; `~` is the home folder.

    Returns:
        Files, at least one; one that is not there is among them, for its reader to refuse.

    Raises:
        InputError: a folder without pictures.
    """
    files = [file for text in texts for path in _split(text) for file in _in_folder(path)]
    return list({_absolute(file): file for file in reversed(files)}.values())[::-1]


def _in_folder(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = list_pictures(path)
    if not files:
        raise invalid(path, "a picture", "a folder without pictures")
    return files


def _split(text: str) -> Iterator[Path]:
    """Paths in a text, the longest that exists first, since names may have spaces themselves."""
    words = [match.span() for match in re.finditer(r"\S+", text)]
    spans = {(first, last) for first, _ in words for _, last in words if last > first}
    there = {span: path for span in spans if (path := _existing(text[slice(*span)]))}
    whole = _existing(text)
    if whole or not there:
        yield whole or Path(text)
        return
    start = 0
    while rest := [span for span in words if span[0] >= start]:
        first = rest[0][0]
        last = max((end for begin, end in there if begin == first), default=rest[0][1])
        yield there.get((first, last), Path(text[first:last]))
        start = last


def _existing(text: str) -> Path | None:
    """The path if there is something; a name that begins with `~` itself goes before the home folder."""
    try:
        return next((path for path in (Path(text), Path(text).expanduser()) if text and path.exists()), None)
    except (OSError, RuntimeError, ValueError):  # too long for a name, no such person's home, a null character
        return None


def _absolute(file: Path) -> Path:
    """Without `..`; links stay, since a result has the name that was given."""
    return Path(os.path.normpath(Path.cwd() / file))


def result_stem(file: Path, folder: Path) -> Path:
    """Where a picture's results go, before their endings: in `folder` under the path that the picture has.

    So pictures of one name from two folders have their own results. The path is that below the working directory, or
    the whole one of a picture elsewhere.
    """
    place = place_of(file)
    return folder / place.parent / short_name(place.name)


def place_of(file: Path) -> Path:
    """The path below the working directory, or the whole one of a file elsewhere, without its root."""
    path, here = _absolute(file), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path.relative_to(path.anchor)


def names_below(files: Sequence[Path]) -> list[str]:
    """Each file's path below the folder that has all of them, with slashes."""
    places = [place_of(file) for file in files]
    common = os.path.commonpath([place.parent for place in places]) if places else ""
    return [place.relative_to(common).as_posix() for place in places]


def short_name(name: str) -> str:
    """A file name that leaves room for endings: one that is too long is cut, and told from others by a digest."""
    content = os.fsencode(name)
    if len(content) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(content).hexdigest()[:12]
    return f"{content[: LONGEST_NAME - 13].decode(errors='ignore')}-{digest}"

"""Frames of a video, one every so many seconds (task 18 on what a phone films). Read by PyAV where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8

from src.core.errors import InputError, invalid
from src.data.decoding import LARGEST

VIDEO_SUFFIXES: Final = (".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm")
HAS_AV: Final = importlib.util.find_spec("av") is not None
ROUNDING: Final = 1e-6  # seconds; times of frames are fractions
NEEDS_AV: Final = "PyAV to read a video; pip install av"


def read_frames(path: Path, seconds: float) -> Iterator[tuple[str, UInt8[np.ndarray, "h w 3"]]]:
    """Frames of the first video stream, upright, each named by the file and its time: `clip-00012.50s`.

    Frames are decoded one after another, and no more than one is kept.

    Args:
        path: a video.
        seconds: from one frame to the next, at least; the first frame is always among them.

    Yields:
        Names, and RGB.

    Raises:
        InputError: PyAV is not there, or the file is missing, no video, broken or larger than `LARGEST` pixels; of one
            that breaks off, after the frames before.
    """
    if not path.is_file():
        raise invalid(path, "a video", "a folder" if path.is_dir() else "no such file")
    if not HAS_AV:
        raise invalid(path, NEEDS_AV, "none")
    due = 0.0
    for number, frame in enumerate(_decoded(path)):
        time = float(number if frame.time is None else frame.time)
        if number and time < due - ROUNDING:
            continue
        due = (due if number and time < due + seconds else time) + seconds  # in step, unless frames are further apart
        yield f"{path.stem}-{time:08.2f}s", _upright(frame)


def _decoded(path: Path) -> Iterator[Any]:
    """All frames; whatever the file's bytes do to the decoder becomes one line."""
    import av  # noqa: PLC0415 - an optional extra

    count = 0
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(_stream(container, path)):
                count += 1
                yield frame
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - a broken file may make the decoder raise anything
        raise invalid(path, "a video that can be read", f"{type(error).__name__}: {error}", count or None) from None
    if not count:
        raise invalid(path, "a video", "no frame in it")


def _stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise invalid(path, "a video", "none but sound in it")
    stream = container.streams.video[0]
    if stream.width * stream.height > LARGEST:
        raise invalid(path, f"at most {LARGEST:,} pixels", f"{stream.width} x {stream.height}")
    return stream


def _upright(frame: Any) -> UInt8[np.ndarray, "h w 3"]:
    """RGB, turned as the phone was held."""
    turns = round(getattr(frame, "rotation", 0) / 90)  # counterclockwise; PyAV says so from version 14 on
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))

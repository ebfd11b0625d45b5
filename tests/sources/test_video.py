"""Frames of a video: which, in what order, upright, one at a time; and what is no video."""

from __future__ import annotations

import sys
import tracemalloc
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.core.errors import InputError
from src.sources import video
from src.sources.video import HAS_AV, read_frames

needs_av = pytest.mark.skipif(not HAS_AV, reason="PyAV, the extra `video`, is not installed")
HEIGHT, WIDTH = 48, 64


def write(path: Path, frames: int, rate: int = 10, size: tuple[int, int] = (HEIGHT, WIDTH), **stream: Any) -> Path:
    """A video whose frames get lighter by 4 gray levels each; its upper left quarter is black."""
    import av  # noqa: PLC0415 - an optional extra

    with av.open(str(path), "w") as container:
        out = container.add_stream("mpeg4", rate=Fraction(rate))
        out.height, out.width, out.pix_fmt = *size, "yuv420p"
        out.bit_rate = 4_000_000
        for number in range(frames):
            picture = np.full((*size, 3), min(40 + 4 * number, 250), np.uint8)
            picture[: size[0] // 2, : size[1] // 2] = 0
            container.mux(out.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(out.encode(None))
    return path


def shades(path: Path, seconds: float) -> list[int]:
    """Which frame each picture is, by its gray level."""
    return [round((float(picture[-8:].mean()) - 40) / 4) for _, picture in read_frames(path, seconds)]


@needs_av
@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".avi"])
def test_a_frame_every_so_many_seconds(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"my clip{ending}", 25)
    assert shades(path, 0.5) == [0, 5, 10, 15, 20]
    assert shades(path, 0.01) == list(range(25))
    assert shades(path, 0.25) == [0, 3, 5, 8, 10, 13, 15, 18, 20, 23]  # in step: not every third
    assert shades(path, 60) == [0]


@needs_av
def test_names_and_pictures(tmp_path: Path) -> None:
    found = list(read_frames(write(tmp_path / "a.b.mp4", 21), 1.0))
    assert [name for name, _ in found] == ["a.b-00000.00s", "a.b-00001.00s", "a.b-00002.00s"]
    for _, picture in found:
        assert (picture.shape, picture.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
        assert picture[: HEIGHT // 2 - 4, : WIDTH // 2 - 4].mean() < 10


@needs_av
def test_frames_are_not_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "long.mp4", 60, size=(480, 640))
    tracemalloc.start()
    count = sum(1 for _ in read_frames(path, 0.01))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60
    assert peak < 6 * 480 * 640 * 3


@needs_av
def test_a_video_that_breaks_off_gives_the_frames_before(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mkv", 40, size=(240, 320)).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    count = 0
    with suppress(InputError):  # some decoders take the end for that of the video
        for _ in read_frames(tmp_path / "cut.mkv", 0.1):
            count += 1
    assert 1 < count < 40


@needs_av
@pytest.mark.parametrize("content", [b"", b"no video", bytes(5000)])
def test_what_is_no_video_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"clip\.mp4.*a video"):
        list(read_frames(path, 1.0))


@needs_av
def test_a_video_of_huge_frames_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "LARGEST", HEIGHT * WIDTH - 1)
    with pytest.raises(InputError, match="64 x 48"):
        list(read_frames(write(tmp_path / "a.mp4", 2), 1.0))


class Turned:
    """A frame as a phone films it."""

    def __init__(self, rotation: int) -> None:
        self.rotation = rotation

    def to_ndarray(self, **_: str) -> np.ndarray:
        return np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


@pytest.mark.parametrize(("rotation", "turns"), [(0, 0), (90, 1), (-90, 3), (180, 2), (-180, 2)])
def test_frames_are_turned_counterclockwise(rotation: int, turns: int) -> None:
    frame = Turned(rotation)
    assert np.array_equal(video._upright(frame), np.rot90(frame.to_ndarray(), turns))


def test_without_pyav_the_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "HAS_AV", False)
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match="pip install av"):
        list(read_frames(tmp_path / "clip.mp4", 1.0))


def test_a_video_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        list(read_frames(tmp_path / "clip.mp4", 1.0))

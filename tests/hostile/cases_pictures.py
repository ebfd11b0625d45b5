"""A person's pictures, broken and unusual, for the stage `predict`. The name says where the file is made."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.hostile.case import Case, case

NAME = "my picture.jpg"
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""
    parts = b""
    for name, body in ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IEND", b"")):
        parts += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return b"\x89PNG\r\n\x1a\n" + parts


def content(data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / NAME).write_bytes(data)


def encoded(kind: str, picture: Image.Image = NOISE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def cut(kind: str) -> Callable[[Path], None]:
    whole = encoded(kind)
    return content(whole[: len(whole) // 2])


def strange_name(folder: Path) -> None:
    (folder / NAME).symlink_to(os.fsdecode(b"caf\xe9.jpg"))


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(ran) (w) file closefile\nshowpage\n"
READABLE = "expected a picture that can be read"
CASES: dict[str, Case] = {
    "nothing": case(lambda folder: None, NAME, "expected a picture, found no such file"),
    "folder": case(lambda folder: (folder / NAME).mkdir(), NAME, "found a folder"),
    "link to nothing": case(strange_name, NAME, "no such file"),
    "empty": case(content(b""), NAME, READABLE),
    "text": case(content(b"no picture at all\n" * 99), NAME, READABLE),
    "page": case(content(b"<html><script>alert(1)</script>"), NAME, READABLE),
    "drawing": case(content(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), NAME, READABLE),
    "program": case(content(POSTSCRIPT), NAME, READABLE),
    "header only": case(content(b"\xff\xd8\xff"), NAME, READABLE),
    "no pixels": case(content(png_header(60, 40)), NAME, READABLE),
    "bomb": case(content(png_header(60_000, 60_000)), NAME, "expected at most 150,000,000 pixels"),
    "small bomb": case(content(png_header(13_000, 12_000)), NAME, "at most 150,000,000 pixels, found 13000 x 12000"),
    **{f"half a {kind}": case(cut(kind), NAME) for kind in ("jpeg", "png", "webp", "bmp", "gif", "tiff", "avif")},
}


def turned() -> bytes:
    """60 x 40 pixels that are to be shown as 40 x 60."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded("jpeg", exif=exif)


# Name: content, width and height in which it is shown.
ALLOWED: dict[str, tuple[bytes, tuple[int, int]]] = {
    "dot.png": (encoded("png", NOISE.resize((1, 1))), (1, 1)),
    "line.png": (encoded("png", NOISE.resize((300, 1))), (300, 1)),
    "gray.png": (encoded("png", NOISE.convert("L")), (60, 40)),
    "clear.png": (encoded("png", NOISE.convert("RGBA")), (60, 40)),
    "deep.png": (encoded("png", Image.new("I;16", (60, 40), 40_000)), (60, 40)),
    "print.jpg": (encoded("jpeg", NOISE.convert("CMYK")), (60, 40)),
    "palette.png": (encoded("png", NOISE.quantize()), (60, 40)),
    "moving.gif": (encoded("gif", save_all=True, append_images=[NOISE.rotate(180)]), (60, 40)),
    "browser.jfif": (encoded("jpeg"), (60, 40)),
    "phone.avif": (encoded("avif"), (60, 40)),
    "stereo.jpg": (encoded("mpo", save_all=True, append_images=[NOISE.rotate(180)]), (60, 40)),
    "turned.jpg": (turned(), (40, 60)),
    "Grüße an 图片 <b>$5^$.png": (encoded("png"), (60, 40)),
}

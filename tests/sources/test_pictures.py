"""A person's own pictures: every mode and size that PIL can read, upright and in RGB; anything else is named."""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.core.errors import InputError
from src.data.decoding import LARGEST, gray_to_bytes
from src.sources import pictures
from src.sources.pictures import list_pictures, read_picture

RED, WHITE = (255, 0, 0), (255, 255, 255)


def save(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)
    return path


def solid(mode: str, color: object, size: tuple[int, int] = (6, 4)) -> Image.Image:
    return Image.new(mode, size, color)


def colors(image: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()}


@pytest.mark.parametrize(
    ("name", "picture", "color"),
    [
        ("rgb.png", solid("RGB", RED), RED),
        ("gray.png", solid("L", 77), (77, 77, 77)),
        ("bit.png", solid("1", 1), WHITE),
        ("palette.gif", solid("RGB", RED).quantize(), RED),
        ("clear.png", solid("RGBA", (255, 0, 0, 0)), WHITE),
        ("half.png", solid("RGBA", (255, 0, 0, 128)), (255, 127, 127)),
        ("gray alpha.png", solid("LA", (0, 0)), WHITE),
        ("deep.png", solid("I;16", 32896), (128, 128, 128)),
        ("deep dark.png", solid("I;16", 16448), (64, 64, 64)),
        ("12 bits.png", solid("I;16", 4095), WHITE),
        ("12 bits.tif", solid("I;16", 2048), (128, 128, 128)),
        ("14 bits.tif", solid("I;16", 8192), (128, 128, 128)),
        ("deep.tif", solid("I;16", 65535), WHITE),
        ("float.tif", solid("F", 128.0), (128, 128, 128)),
        ("unit.tif", solid("F", 0.5), (128, 128, 128)),
        ("download.jfif", solid("RGB", RED), RED),
        ("photo.avif", solid("RGB", RED), RED),
        ("cmyk.jpg", solid("CMYK", (0, 255, 255, 0)), RED),
        ("cmyk.tif", solid("CMYK", (0, 255, 255, 0)), RED),
        ("ycbcr.jpg", solid("YCbCr", (255, 128, 128)), WHITE),
        ("lab.tif", solid("LAB", (255, 128, 128)), WHITE),
        ("web.webp", solid("RGBA", (255, 0, 0, 0)), WHITE),
        ("plain.bmp", solid("RGB", RED), RED),
        ("Grüße 图片.png", solid("RGB", RED), RED),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_mode_becomes_rgb(tmp_path: Path, name: str, picture: Image.Image, color: tuple[int, ...]) -> None:
    image = read_picture(save(tmp_path / name, picture))
    assert image.shape == (4, 6, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - color).max() <= 2, image[0, 0]


@pytest.mark.parametrize(
    ("gray", "shown"),
    [
        (np.array([[0, 4095]], np.uint16), [0, 255]),
        (np.array([[0, 1023]], np.int32), [0, 255]),
        (np.array([[0, 65535]], np.int32), [0, 255]),
        (np.array([[0, 10**9]], np.int32), [0, 255]),
        (np.array([[-1000, 0, 1000]], np.int32), [0, 128, 255]),  # Hounsfield units
        (np.array([[0, 0]], np.uint16), [0, 0]),
        (np.array([[0.0, 1.0]], np.float32), [0, 255]),
        (np.array([[0.0, 2000.0, 1000.0]], np.float32), [0, 255, 128]),
        (np.array([[-1.0, 1.0]], np.float32), [0, 255]),
        (np.array([[np.nan, 0.5, np.inf, -np.inf]], np.float32), [0, 128, 255, 0]),
        (np.array([[np.nan]], np.float32), [0]),
    ],
)
def test_grays_are_scaled_by_their_range(gray: np.ndarray, shown: list[int]) -> None:
    assert gray_to_bytes(gray)[0].tolist() == shown


def test_a_jpeg_of_several_pictures(tmp_path: Path) -> None:
    """As phones and stereo cameras save them (MPO)."""
    frames = [solid("RGB", color, (64, 48)) for color in (RED, (0, 0, 255))]
    for name in ("a.mpo", "a.jpg"):
        path = save(tmp_path / name, frames[0], format="MPO", save_all=True, append_images=frames[1:])
        assert np.abs(read_picture(path).astype(int) - RED).max() <= 2
    assert len(list_pictures(tmp_path)) == 2


def test_heic_is_read_or_named_with_what_it_needs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    if pictures.HAS_HEIF:
        refused(path, "a picture that can be read")
        assert list_pictures(tmp_path) == [path]
    else:
        refused(path, "a picture that can be read (HEIC needs the package pillow-heif")
        assert list_pictures(tmp_path) == []
        assert "IMG_0001.HEIC: passed over; HEIC needs the package pillow-heif" in caplog.text


@pytest.mark.skipif(not pictures.HAS_HEIF, reason="an extra: pillow-heif")
def test_heic(tmp_path: Path) -> None:
    path = save(tmp_path / "a.heic", solid("RGB", RED, (64, 48)))
    assert np.abs(read_picture(path).astype(int) - RED).max() <= 4


def test_transparent_colors_of_a_palette(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putdata([0, 1])
    path = save(tmp_path / "palette.png", picture, transparency=1)
    assert read_picture(path).tolist() == [[[255, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (301, 7)])
def test_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    image = read_picture(save(tmp_path / "a.png", solid("RGB", RED, size)))
    assert image.shape == (size[1], size[0], 3)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_an_animation_s_first_frame(tmp_path: Path, name: str) -> None:
    frames = [solid("RGB", color) for color in (RED, (0, 0, 255), (0, 255, 0))]
    options = {"lossless": True} if name.endswith("webp") else {}
    path = save(tmp_path / name, frames[0], save_all=True, append_images=frames[1:], **options)
    assert colors(read_picture(path)) == {RED}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_picture_upright(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, 0], upright[0, -1] = RED, (0, 0, 255)
    stored = Image.fromarray(upright)
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that undoes each orientation
    if orientation in back:
        stored = stored.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read_picture(save(tmp_path / "a.png", stored, exif=exif))
    assert np.array_equal(image, upright)


def refused(path: Path, words: str = "") -> str:
    with pytest.raises(InputError, match=re.escape(str(path))) as error:
        read_picture(path)
    text = str(error.value)
    assert "\n" not in text
    assert words in text
    return text


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\xff\xd8\xff", b"GIF89a", b"\x89PNG\r\n\x1a\n"])
def test_a_text_named_jpg(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    refused(path, "expected a picture that can be read")


def test_a_folder_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    refused(tmp_path / "a.png", "a folder")
    refused(tmp_path / "b.png", "no such file")


def encoded(kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if kind in {"jpeg", "png", "webp", "tiff", "avif"} else {}
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp", "gif", "tiff", "avif"])
def test_a_truncated_picture(tmp_path: Path, kind: str) -> None:
    path, whole = tmp_path / f"a.{kind}", encoded(kind)
    path.write_bytes(whole[: len(whole) // 2])
    refused(path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PIL's, about tags
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp", "gif", "tiff", "avif"])
def test_a_damaged_picture_is_read_or_named(tmp_path: Path, kind: str) -> None:
    path, whole = tmp_path / f"a.{kind}", encoded(kind)
    draw = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in draw.integers(0, min(len(whole), 400), 4):  # the headers
            damaged[place] = draw.integers(256)
        path.write_bytes(damaged)
        try:
            image = read_picture(path)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
        else:
            assert image.shape[2] == 3


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""
    parts = b""
    for name, body in ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IEND", b"")):
        parts += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("size", [(13_000, 12_000), (15_000, 15_000), (2**31 - 1, 1), (60_000, 60_000)])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size))
    assert size[0] * size[1] > LARGEST
    refused(path, f"expected at most {LARGEST:,} pixels")


def test_a_large_photo_is_no_bomb(tmp_path: Path) -> None:
    """100 megapixels, where PIL already warns: only its missing pixels are at fault."""
    path = tmp_path / "photo.png"
    path.write_bytes(png_header(10_000, 10_000))
    assert "pixels" not in refused(path)


def test_pictures_of_a_folder_by_name(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "ä.webp", "notes.txt", ".gitkeep", "pictures.json"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_pictures(tmp_path)] == ["a.png", "b.JPG", "ä.webp"]
    assert list_pictures(tmp_path / "nowhere") == []

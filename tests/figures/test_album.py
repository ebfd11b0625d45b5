"""Pictures that fit a number of bytes: how many, how large, and that what is written is what was added."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.core.files import read_json
from src.figures.album import LEAST, SIDES, Album, encode, to_json

NOISE = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
PLAIN = np.full((300, 400, 3), 90, np.uint8)


def decoded(text: str) -> Image.Image:
    kind, content = text.split(",")
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_all_pictures_are_kept_where_there_is_room(tmp_path: Path) -> None:
    album = Album(1_000_000, 3)
    for number in range(3):
        album.add(PLAIN, {"number": number})
    album.write(tmp_path / "album.json", threshold=0.5)
    tree = read_json(tmp_path / "album.json")
    assert [one["number"] for one in tree["pictures"]] == [0, 1, 2]
    assert (tree["left_out"], tree["threshold"]) == (0, 0.5)
    assert {decoded(one["picture"]).size for one in tree["pictures"]} == {(400, 300)}
    assert np.abs(np.asarray(decoded(tree["pictures"][0]["picture"])).astype(int) - 90).max() <= 2


@pytest.mark.parametrize("room", [50_000, 200_000, 1_000_000])
@pytest.mark.parametrize("count", [1, 7, 40])
def test_no_more_is_written_than_there_is_room(room: int, count: int, tmp_path: Path) -> None:
    album = Album(room, count)
    for number in range(count):
        if album.is_full:
            album.leave_out(count - number)
            break
        album.add(NOISE, {"name": "n" * 100 * number})
    album.write(tmp_path / "album.json")
    assert (tmp_path / "album.json").stat().st_size <= room + 100
    assert len(album.pictures) + album.left_out == count
    assert [len(one["name"]) for one in album.pictures] == [100 * number for number in range(len(album.pictures))]


def test_large_pictures_are_made_smaller_before_any_is_left_out() -> None:
    large = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    album = Album(480_000, 4)
    for _ in range(4):
        album.add(large, {})
    assert album.left_out == 0
    sizes = {decoded(one["picture"]).size for one in album.pictures}
    assert all(max(size) in SIDES and max(size) < SIDES[0] for size in sizes)


def test_a_picture_of_any_shape_is_encoded() -> None:
    for shape in ((1, 1), (1, 5000), (5000, 1), (3000, 20)):
        picture = decoded(encode(np.zeros((*shape, 3), np.uint8), LEAST))
        assert max(picture.size) <= SIDES[0]


def test_names_that_are_no_text_are_written() -> None:
    assert to_json({"name": "\udce9 \u732b"}) == '{"name":"\\udce9 \\u732b"}'

"""Pictures in the dataset file: the file that a person has, to the byte, and the pixels that it always gave."""

from __future__ import annotations

import dataclasses
import io
import os
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageCms

from src.core.errors import InputError
from src.data.dataset import DatasetFile, write_dataset
from src.data.decoding import decode, encode, opened
from src.data.prepared import write_prepared
from src.sources.coco.source import open_coco
from src.sources.pictures import read_picture
from src.structures.masks import Masks
from src.structures.sample import PictureFile, Sample
from tests.factories import SMALL, data_params, make_coco, make_dataset, make_samples, write_tree

SIZE = (90, 60)  # width and height
SHADES = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize(SIZE)
ALPHA = Image.linear_gradient("L").resize(SIZE)
DEEP = Image.fromarray(np.linspace(0, 4095, 90 * 60).astype(np.uint16).reshape(60, 90))


def with_alpha() -> Image.Image:
    picture = SHADES.convert("RGBA")
    picture.putalpha(ALPHA)
    return picture


def turned(orientation: int) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif}


KINDS: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
    "photo": (SHADES, "JPEG", {"quality": 80}),
    "progressive": (SHADES, "JPEG", {"progressive": True, "subsampling": 0}),
    "profile": (SHADES, "JPEG", {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}),
    "png": (SHADES, "PNG", {}),
    "gray": (SHADES.convert("L"), "PNG", {}),
    "gray jpeg": (SHADES.convert("L"), "JPEG", {}),
    "alpha": (with_alpha(), "PNG", {}),
    "palette": (SHADES.convert("P"), "PNG", {"transparency": 3}),
    "cmyk": (SHADES.convert("CMYK"), "JPEG", {}),
    "cmyk tiff": (SHADES.convert("CMYK"), "TIFF", {}),
    "12 bits": (DEEP, "PNG", {}),
    "bits": (SHADES.convert("1"), "PNG", {}),
    "webp": (SHADES, "WEBP", {"quality": 70}),
    "bmp": (SHADES, "BMP", {}),
    **{f"turned {number}": (SHADES, "JPEG", turned(number)) for number in range(1, 9)},
}


def as_file(kind: str) -> bytes:
    picture, form, options = KINDS[kind]
    content = io.BytesIO()
    picture.save(content, form, **options)
    return content.getvalue()


def sample_of(image: np.ndarray, file: PictureFile | None = None, name: str = "a") -> Sample:
    """A picture whose one object is all of it."""
    (one,) = make_samples(1, 0, sizes=[(60, 90)])
    height, width = image.shape[:2]
    return dataclasses.replace(
        one,
        name=name,
        image=image,
        boxes=np.array([[0, 0, width, height]], np.float32),
        labels=np.array([1]),
        crowd=np.zeros(1, bool),
        masks=Masks.from_pixels(np.ones((1, height, width), bool)),
        file=file,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_kept_to_the_byte_and_its_pixels_are_those_of_a_person_s_picture(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.picture"
    path.write_bytes(as_file(kind))
    pixels, file = read_picture(path), PictureFile(path.read_bytes())
    with DatasetFile(make_dataset(tmp_path / "d.h5", [sample_of(pixels, file)])) as dataset:
        assert dataset.image(0).dtype == np.uint8
        assert np.array_equal(dataset.image(0), pixels)
        assert dataset.source_size(0) == pixels.shape[:2]
    with h5py.File(tmp_path / "d.h5") as stored:
        assert stored["files"][:].tobytes() == file.content


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_meant_as_it_is_stored_is_not_turned(tmp_path: Path, orientation: int) -> None:
    file = PictureFile(as_file(f"turned {orientation}"), as_stored=True)
    pixels = np.asarray(Image.open(io.BytesIO(file.content)))
    with DatasetFile(make_dataset(tmp_path / "d.h5", [sample_of(pixels, file)])) as dataset:
        assert np.array_equal(dataset.image(0), pixels)


@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
def test_pixels_without_a_file_lose_nothing(image: np.ndarray) -> None:
    with opened(encode(image)) as picture:
        assert np.array_equal(decode(picture), image)


def test_a_side_that_webp_cannot_hold() -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 17_000, 3), dtype=np.uint8)
    with opened(encode(image)) as picture:
        assert picture.format == "PNG"
        assert np.array_equal(decode(picture), image)


def test_a_set_weighs_what_its_files_do(tmp_path: Path) -> None:
    """Photos of phones among them, turned by EXIF only: pixels without loss would weigh ten times as much."""
    tree = make_coco(tmp_path / "set", 24, seed=1)
    rng = np.random.default_rng(0)
    for number, entry in enumerate(tree["images"]):
        height, width = entry["height"], entry["width"]
        noise = Image.fromarray(rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8))
        orientation = 6 if number % 2 else 1
        stored = (height, width) if orientation == 6 else (width, height)
        entry["file_name"] = f"{number}.jpg"
        path = tmp_path / "set/images" / entry["file_name"]
        noise.resize(stored).save(path, quality=95, **turned(orientation))
    write_tree(tmp_path / "set", tree)
    source = open_coco(data_params("coco", tmp_path / "set"))
    write_dataset(tmp_path / "d.h5", source, {"classes": source.classes.names})
    weight = sum(path.stat().st_size for path in (tmp_path / "set/images").glob("*.jpg"))
    assert (tmp_path / "d.h5").stat().st_size < 1.3 * weight
    with DatasetFile(tmp_path / "d.h5") as dataset:
        for index, name in enumerate(dataset.names):
            assert np.array_equal(dataset.image(index), read_picture(tmp_path / "set/images" / name))


def refused(tmp_path: Path, *words: str) -> None:
    with DatasetFile(tmp_path / "d.h5") as dataset, pytest.raises(InputError) as caught:
        write_prepared(tmp_path / "p.h5", dataset, SMALL)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(tmp_path / "d.h5"), *words):
        assert word in message
    assert not (tmp_path / "p.h5").exists()


def two(tmp_path: Path) -> None:
    content = as_file("photo")
    with opened(PictureFile(content)) as picture:
        pixels = decode(picture)
    make_dataset(tmp_path / "d.h5", [sample_of(pixels), sample_of(pixels, PictureFile(content))])


@pytest.mark.parametrize("first", [0, 100])
def test_damaged_pictures_are_refused_by_their_number(tmp_path: Path, first: int) -> None:
    """From the first byte on it is no picture; from the hundredth, a JPEG without an end."""
    two(tmp_path)
    with h5py.File(tmp_path / "d.h5", "a") as file:
        start = int(file["file_starts"][1])
        file["files"][start + first :] = 0
    refused(tmp_path, "[1]: expected a picture that can be read")


def test_a_picture_of_another_size_than_its_masks_is_refused(tmp_path: Path) -> None:
    two(tmp_path)
    with h5py.File(tmp_path / "d.h5", "a") as file:
        file["sizes"][1] = (60, 80)
    refused(tmp_path, "[1]: expected a picture of 60 x 80 pixels, found 60 x 90")


@pytest.mark.parametrize("byte", [0, 64, 200])
def test_damaged_masks_are_refused(tmp_path: Path, byte: int) -> None:
    two(tmp_path)
    with h5py.File(tmp_path / "d.h5", "a") as file:
        file["masks"][int(file["mask_starts"][1]) :] = byte
    refused(tmp_path, "[1]: expected masks as run lengths")


def test_a_byte_that_a_disk_has_changed_is_noticed(tmp_path: Path) -> None:
    """In the middle of a JPEG, which would still decode."""
    two(tmp_path)
    path, content = tmp_path / "d.h5", as_file("photo")
    whole = bytearray(path.read_bytes())
    whole[whole.index(content) + len(content) - 40] ^= 1
    path.write_bytes(whole)
    refused(tmp_path, "expected readable data")


@pytest.mark.parametrize("column", ["files", "file_starts", "as_stored", "masks", "mask_starts", "sizes"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    two(tmp_path)
    with h5py.File(tmp_path / "d.h5", "a") as file:
        del file[column]
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'd.h5'}: expected a dataset '{column}'")):
        DatasetFile(tmp_path / "d.h5")


def test_a_prepared_file_is_no_dataset_file(tmp_path: Path) -> None:
    two(tmp_path)
    with DatasetFile(tmp_path / "d.h5") as dataset:
        write_prepared(tmp_path / "p.h5", dataset, SMALL)
    with pytest.raises(InputError, match="expected a dataset file, found a prepared file"):
        DatasetFile(tmp_path / "p.h5")


def test_a_file_too_large_for_memory_is_left_out(tmp_path: Path) -> None:
    tree = make_coco(tmp_path, 6, seed=1)
    path = tmp_path / "images" / tree["images"][2]["file_name"]
    os.truncate(path, 2**31)  # sparse: it takes no room
    source = open_coco(data_params("coco", tmp_path, largest_left_out=0.5))
    assert len(list(source)) == 5
    (entry,) = source.findings.left_out
    assert "bytes, found 2,147,483,648" in entry.detail

"""The course's hold-out images: back to the pictures they were made of, and every way in which they can be broken."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.core.errors import InputError
from src.data.letterbox import Letterbox
from src.detector.backbones import IMAGENET
from src.sources import hold_out
from src.sources.hold_out import MARGIN, PADDED, read_pictures
from src.sources.pictures import list_pictures
from tests.factories import make_samples

MEAN, STD = (np.array(value).reshape(3, 1, 1) for value in (IMAGENET.mean, IMAGENET.std))


def normalized(picture: np.ndarray) -> np.ndarray:
    """As the assignment normalizes, [1, 3, h, w]."""
    return ((picture.transpose(2, 0, 1) / 255 - MEAN) / STD)[None].astype(np.float32)


def objects(items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hold_out_images.npz"


def picture(height: int = PADDED[0], width: int = PADDED[1] - 2 * MARGIN) -> np.ndarray:
    image = make_samples(1)[0].image
    return Letterbox(height, width, width, *image.shape[:2]).image_to_canvas(image)


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("compressed", [True, False])
def test_padded_images_come_back_without_their_padding(path: Path, stacked: bool, compressed: bool) -> None:
    made = [picture(), picture()[::-1]]
    images = [np.pad(normalized(one), [(0, 0)] * 3 + [(MARGIN, MARGIN)]) for one in made]
    assert images[0].shape == (1, 3, *PADDED)
    save = np.savez_compressed if compressed else np.savez
    save(path, input_images=np.stack(images) if stacked else objects(images))
    read = read_pictures(path)
    assert [name for name, _ in read] == ["hold_out_images-0", "hold_out_images-1"]
    for (_, one), other in zip(read, made, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_fills_the_canvas_or_has_another_size_stays_whole(path: Path) -> None:
    made = [picture(*PADDED), picture(60, 90)]
    np.savez(path, input_images=objects([normalized(one) for one in made]))
    for (_, one), other in zip(read_pictures(path), made, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_folder_s_hold_out_images_are_among_its_pictures(path: Path) -> None:
    np.savez(path, input_images=objects([normalized(picture(60, 90))]))
    assert list_pictures(path.parent) == [path]


class Call:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def entries(*items: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, allow_pickle=True, input_images=objects(list(items)))


def cut(path: Path) -> None:
    np.savez(path, input_images=np.zeros((1, 1, 3, 8, 8), np.float32))
    path.write_bytes(path.read_bytes()[:200])


def bomb(path: Path) -> None:
    """Far more than its own size, and than the limit of the test."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("input_images.npy", bytes(2**20))


GOOD = np.zeros((1, 3, 8, 8), np.float32)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "found a folder"),
        (lambda path: path.write_bytes(b"PK\x03\x04"), "an .npz archive that can be read"),
        (cut, "an .npz archive that can be read"),
        (bomb, "at most 1,000,000 bytes"),
        (lambda path: np.savez(path, images=GOOD), "an array 'input_images', found images.npy"),
        (entries(), "found none"),
        (entries(GOOD, np.zeros((1, 8, 8, 3), np.float32)), "input_images[1]: expected normalized floats of shape"),
        (entries(GOOD, np.zeros((2, 3, 8, 8), np.float32)), "input_images[1]"),
        (entries(GOOD, np.zeros((1, 3, 0, 8), np.float32)), "input_images[1]"),
        (entries(GOOD, GOOD.astype(np.uint8)), "found uint8"),
        (entries(GOOD, GOOD + np.nan), "expected finite numbers"),
        (entries(GOOD, "text"), "input_images[1]"),
        (entries(GOOD, Call()), "the name posix.system"),
    ],
)
def test_refuses_what_it_cannot_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], words: str
) -> None:
    monkeypatch.chdir(path.parent)
    monkeypatch.setattr(hold_out, "LARGEST", 1_000_000)
    make(path)
    before = sorted(path.parent.iterdir())
    with pytest.raises(InputError) as caught:
        read_pictures(path)
    assert words in str(caught.value)
    assert "hold_out_images.npz" in str(caught.value)
    assert sorted(path.parent.iterdir()) == before


def test_the_normalization_is_the_assignment_s() -> None:
    """The numbers of the detector, which this package does not know."""
    assert hold_out.MEAN.tolist() == np.float32(IMAGENET.mean).tolist()
    assert hold_out.STD.tolist() == np.float32(IMAGENET.std).tolist()

"""The course's four files: round trips, every way in which they can be broken, and memory."""

import collections
import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from src.core.errors import InputError
from src.sources.course import open_course
from tests.data.memory import traced_peak
from tests.factories import COURSE_NAMES, data_params, make_course, make_samples, write_h5, write_npy

GENUINE = Path(os.environ.get("COURSE_FILES", "input/course"))  # a folder with the genuine labels and boxes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_course(tmp_path, 6, seed=3)
    return tmp_path


def refuses(root: Path, *words: str) -> str:
    """Reads the whole set, which must fail with one line that holds the words."""
    with pytest.raises(InputError) as caught:
        list(open_course(data_params("course", root)))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, f"{word!r} not in {message!r}"
    return message


@pytest.mark.parametrize("genuine", [True, False])
@pytest.mark.parametrize("bool_masks", [True, False])
def test_a_set_comes_back_as_it_was_made(tmp_path: Path, genuine: bool, bool_masks: bool) -> None:
    make_course(tmp_path, 6, seed=3, genuine=genuine, bool_masks=bool_masks)
    source = open_course(data_params("course", tmp_path))
    read, made = list(source), make_samples(6, seed=3)
    assert len(source) == len(read) == 6
    for one, other in zip(read, made, strict=True):
        assert one.image.dtype == np.uint8
        assert one.masks == other.masks
        for name in ("image", "boxes", "labels", "crowd", "unlabeled_boxes"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert sorted(sample.split for sample in read) == ["test"] * 2 + ["train"] * 4


@pytest.mark.parametrize("flat", [True, False])
def test_plain_arrays_of_one_object_each(tmp_path: Path, flat: bool) -> None:
    """`np.save` of a list of arrays of one shape: no object array, with or without the objects' own axis."""
    make_course(tmp_path, 6, seed=3)
    made = make_samples(6, seed=3)
    with h5py.File(tmp_path / COURSE_NAMES["masks"]) as file:
        masks = file["data"][:]
    starts = np.cumsum([0, *(len(sample.labels) for sample in made)])[:-1]
    write_h5(tmp_path / COURSE_NAMES["masks"], masks[starts])
    labels, boxes = np.stack([one.labels[:1] for one in made]), np.stack([one.boxes[:1] for one in made])
    np.save(tmp_path / COURSE_NAMES["labels"], labels[:, 0] if flat else labels)
    np.save(tmp_path / COURSE_NAMES["boxes"], boxes[:, 0] if flat else boxes)
    for one, other in zip(open_course(data_params("course", tmp_path)), made, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels[:1])
        np.testing.assert_array_equal(one.boxes, other.boxes[:1])
        np.testing.assert_array_equal(one.masks.pixels(), other.masks.pixels()[:1])


def test_reading_twice_gives_the_same(root: Path) -> None:
    source = open_course(data_params("course", root))
    assert [sample.name for sample in source] == [sample.name for sample in source]


def test_more_objects_in_a_picture_than_allowed_are_refused(root: Path) -> None:
    with pytest.raises(InputError, match=r"at most 1 objects in a picture \(data.objects_per_image\), found 2"):
        open_course(data_params("course", root, objects_per_image=1))
    assert len(open_course(data_params("course", root, objects_per_image=2))) == 6


def test_limit_takes_the_first_and_splits_them(root: Path) -> None:
    read = list(open_course(data_params("course", root, limit=4)))
    assert [sample.name for sample in read] == ["000000", "000001", "000002", "000003"]
    assert sum(sample.split == "train" for sample in read) == 3


def test_the_validation_part_changes_a_picture_s_split_and_nothing_else(root: Path) -> None:
    whole = list(open_course(data_params("course", root)))
    read = list(open_course(data_params("course", root, validation_fraction=0.5)))
    assert collections.Counter(sample.split for sample in read) == {"train": 2, "validation": 2, "test": 2}
    for one, other in zip(read, whole, strict=True):
        assert one.split == other.split or (one.split, other.split) == ("validation", "train")
        assert one.name == other.name
        np.testing.assert_array_equal(one.image, other.image)


def test_blocks_do_not_change_what_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(open_course(data_params("course", root)))
    monkeypatch.setattr("src.sources.course.BLOCK", 4)
    for one, other in zip(whole, open_course(data_params("course", root)), strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert one.masks == other.masks


@pytest.mark.parametrize("kind", list(COURSE_NAMES))
def test_refuses_a_missing_file(root: Path, kind: str) -> None:
    (root / COURSE_NAMES[kind]).unlink()
    refuses(root, COURSE_NAMES[kind], "no such file")


@pytest.mark.parametrize("kind", list(COURSE_NAMES))
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_refuses_a_truncated_file(root: Path, kind: str, keep: float) -> None:
    path = root / COURSE_NAMES[kind]
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    refuses(root, COURSE_NAMES[kind])


@pytest.mark.parametrize("kind", list(COURSE_NAMES))
def test_refuses_text_in_the_place_of_a_file(root: Path, kind: str) -> None:
    (root / COURSE_NAMES[kind]).write_text("<html>404: not found</html>")
    refuses(root, COURSE_NAMES[kind])


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("images", np.zeros((6, 300, 400, 3), np.uint8), ("(6, 3, 300, 400)", "(6, 300, 400, 3)")),
        ("images", np.zeros((6, 3, 300, 400), np.float32), ("uint8", "float32")),
        ("images", np.zeros((5, 3, 300, 400), np.uint8), ("(6, 3, 300, 400)", "(5, 3, 300, 400)")),
        ("masks", np.zeros((2, 300, 400), np.uint8), ("(2, 300, 400)",)),
        ("masks", np.zeros((2, 300, 400), np.float64), ("bool or uint8", "float64")),
        ("masks", np.zeros((2, 400, 300), np.uint8), ("(2, 400, 300)",)),
    ],
)
def test_refuses_arrays_of_another_form(root: Path, kind: str, data: np.ndarray, words: tuple[str, ...]) -> None:
    write_h5(root / COURSE_NAMES[kind], data)
    refuses(root, COURSE_NAMES[kind], *words)


def test_refuses_another_key(root: Path) -> None:
    write_h5(root / COURSE_NAMES["images"], np.zeros((6, 3, 300, 400), np.uint8), key="images")
    refuses(root, "a dataset 'data'", "images")


def test_refuses_a_group_in_the_place_of_the_data(root: Path) -> None:
    with h5py.File(root / COURSE_NAMES["masks"], "w") as file:
        file.create_group("data")
    refuses(root, "a dataset 'data'")


def test_refuses_terabytes_without_reading_them(root: Path) -> None:
    with h5py.File(root / COURSE_NAMES["images"], "w") as file:
        file.create_dataset("data", (10**9, 3, 300, 400), np.uint8, chunks=(1, 3, 300, 400))
    refuses(root, "(6, 3, 300, 400)", "1000000000")


def test_refuses_data_outside_the_file(root: Path, tmp_path: Path) -> None:
    path = root / COURSE_NAMES["masks"]
    shape = h5py.File(path)["data"].shape
    (tmp_path / "secret").write_bytes(bytes(np.prod(shape)))
    with h5py.File(path, "w") as file:
        file.create_dataset("data", shape, np.uint8, external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)])
    refuses(root, "stored in this file")
    with h5py.File(path, "w") as file:
        file["data"] = h5py.ExternalLink(str(root / COURSE_NAMES["images"]), "data")
    refuses(root, "a dataset 'data'")


def test_refuses_damaged_chunks(root: Path) -> None:
    path = root / COURSE_NAMES["images"]
    with h5py.File(path) as file:
        chunk = file["data"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(content)
    refuses(root, "readable data")


def labels_and_boxes() -> tuple[list[np.ndarray], list[np.ndarray]]:
    samples = make_samples(6, seed=3)
    return [sample.labels.copy() for sample in samples], [sample.boxes.copy() for sample in samples]


@pytest.mark.parametrize("value", [0, 4, -1])
def test_refuses_labels_outside_the_classes(root: Path, value: int) -> None:
    labels, _ = labels_and_boxes()
    labels[2][0] = value
    write_npy(root / COURSE_NAMES["labels"], labels)
    refuses(root, "npy[2]", "labels 1 to 3", str(value))


def test_refuses_labels_of_another_type(root: Path) -> None:
    labels, _ = labels_and_boxes()
    write_npy(root / COURSE_NAMES["labels"], [entry.astype(np.float32) for entry in labels])
    refuses(root, "npy[0]", "int64", "float32")


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((50, 50, 20, 90), "x1 < x2"),
        ((20, 90, 50, 50), "y1 < y2"),
        ((20, 20, 20, 50), "x1 < x2"),
        ((np.nan, 20, 40, 50), "finite"),
        ((20, 20, np.inf, 50), "finite"),
        ((-2, 20, 40, 50), "inside the picture"),
        ((20, 20, 40, 302), "inside the picture"),
        ((20, 20, 1066, 250), "inside the picture"),
    ],
)
def test_refuses_boxes_that_are_none(root: Path, box: tuple[float, ...], words: str) -> None:
    _, boxes = labels_and_boxes()
    boxes[4][0] = box
    write_npy(root / COURSE_NAMES["boxes"], boxes)
    refuses(root, "npy[4]", words)


def test_clips_boxes_that_leave_the_picture_by_rounding(root: Path) -> None:
    _, boxes = labels_and_boxes()
    boxes[4][0] = (-0.6, -0.2, 400.4, 300.9)
    write_npy(root / COURSE_NAMES["boxes"], boxes)
    assert list(open_course(data_params("course", root)))[4].boxes[0].tolist() == [0, 0, 400, 300]


def test_boxes_keep_their_fractions(root: Path) -> None:
    _, boxes = labels_and_boxes()
    boxes = [entry + np.array([0.25, 0.5, 0.75, 0.125], np.float32) for entry in boxes]
    boxes[4][0] = (10.25, 20.5, 390.75, 200.125)
    write_npy(root / COURSE_NAMES["boxes"], boxes)
    for sample, written in zip(open_course(data_params("course", root)), boxes, strict=True):
        assert sample.boxes.dtype == np.float32
        np.testing.assert_array_equal(sample.boxes, written)


def test_refuses_files_that_disagree(root: Path) -> None:
    labels, boxes = labels_and_boxes()
    write_npy(root / COURSE_NAMES["boxes"], boxes[:5])
    refuses(root, COURSE_NAMES["boxes"], "6 entries", "found 5")
    write_npy(root / COURSE_NAMES["boxes"], [boxes[0][:0], *boxes[1:]])
    refuses(root, "npy[0]", f"shape ({len(labels[0])}, 4)", "(0, 4)")


def test_refuses_masks_of_other_values_and_empty_ones(root: Path) -> None:
    path = root / COURSE_NAMES["masks"]
    with h5py.File(path) as file:
        masks = file["data"][:]
    broken = masks.copy()
    broken[1] *= 255
    write_h5(path, broken)
    refuses(root, "h5[1]", "0 and 1", "255")
    broken = masks.copy()
    broken[2] = 0
    write_h5(path, broken)
    refuses(root, "h5[2]", "empty")


def test_refuses_masks_out_of_label_order(tmp_path: Path) -> None:
    make_course(tmp_path, 12, seed=5)
    path = tmp_path / COURSE_NAMES["masks"]
    with h5py.File(path) as file:
        masks = file["data"][:]
    write_h5(path, np.roll(masks, 1, axis=0))
    refuses(tmp_path, "a mask inside its box", "label order")


def test_refuses_sets_too_small_to_split(tmp_path: Path) -> None:
    make_course(tmp_path, 1)
    refuses(tmp_path, "to train on and to test on", "0 and 1 of 1")


def test_memory_does_not_grow_with_the_set(tmp_path: Path) -> None:
    def peak(images: int) -> int:
        root = tmp_path / str(images)
        make_course(root, 2)
        samples = make_samples(2)
        count = sum(len(sample.labels) for sample in samples)
        for kind, rows, row in (("images", images, (3, 300, 400)), ("masks", images // 2 * count, (300, 400))):
            with h5py.File(root / COURSE_NAMES[kind], "w") as file:
                file.create_dataset("data", (rows, *row), np.uint8, chunks=(1, *row), fillvalue=1, compression=1)
        write_npy(root / COURSE_NAMES["labels"], [sample.labels for sample in samples] * (images // 2))
        write_npy(root / COURSE_NAMES["boxes"], [sample.boxes for sample in samples] * (images // 2))
        return traced_peak(lambda: collections.deque(open_course(data_params("course", root)), maxlen=0))

    assert peak(192) < 1.3 * peak(64)


@pytest.mark.skipif(
    not (GENUINE / COURSE_NAMES["boxes"]).is_file(), reason="the genuine labels and boxes are not on this machine"
)
def test_reads_the_genuine_labels_and_boxes(tmp_path: Path) -> None:
    for kind in ("labels", "boxes"):
        (tmp_path / COURSE_NAMES[kind]).write_bytes((GENUINE / COURSE_NAMES[kind]).read_bytes())
    write_h5(tmp_path / COURSE_NAMES["images"], np.zeros((1, 3, 300, 400), np.uint8))
    write_h5(tmp_path / COURSE_NAMES["masks"], np.zeros((1, 300, 400), np.uint8))
    message = refuses(tmp_path, "(3265, 3, 300, 400)")  # labels and boxes passed, the images are too few
    assert not re.search("npy", message)

"""COCO sets: what is kept, in its own pixels, and every way in which they can be broken."""

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.core.errors import InputError
from src.sources.coco.source import open_coco
from src.structures.sample import PictureFile
from tests.factories import COLORS, data_params, make_coco, write_tree

Tree = dict[str, Any]
SIZES = [(240, 320), (320, 240), (150, 400)]  # of the factories' pictures


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_coco(tmp_path, 6, seed=1)
    return tmp_path


def read(root: Path, **changes: Any) -> list[Any]:
    return list(open_coco(data_params("coco", root, **changes)))


def refuses(root: Path, *words: str, **changes: Any) -> None:
    with pytest.raises(InputError) as caught:
        read(root, **changes)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, f"{word!r} not in {message!r}"


def test_objects_of_the_three_classes_lie_where_their_pixels_are(root: Path) -> None:
    samples = read(root)
    assert len(samples) == 6
    for index, sample in enumerate(samples, start=1):
        assert sample.image.shape[:2] == SIZES[index % 3] == (sample.masks.height, sample.masks.width)
        for box, label, mask in zip(
            sample.boxes[~sample.crowd],
            sample.labels[~sample.crowd],
            sample.masks.keep(~sample.crowd),
            strict=True,
        ):
            ys, xs = np.nonzero(mask)
            around = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            assert np.abs(around - box).max() <= 1
            inner = np.median(sample.image[mask], axis=0)
            assert np.abs(inner - COLORS[int(label)]).max() < 12


def test_boxes_are_those_of_the_json(root: Path) -> None:
    tree = json.loads((root / "instances.json").read_text())
    expected: dict[int, list[list[float]]] = {}
    for annotation in tree["annotations"]:
        annotation["bbox"] = np.add(annotation["bbox"], [0.25, 0.5, 0.375, -0.625]).tolist()
        x, y, width, height = annotation["bbox"]
        number = annotation["image_id"]
        if annotation["category_id"] != 62:
            expected.setdefault(number, []).append([x, y, x + width, y + height])
    write_tree(root, tree)
    for number, sample in enumerate(read(root), start=1):
        np.testing.assert_allclose(sample.boxes, expected[number], rtol=0, atol=1e-4)


def test_the_validation_part_changes_a_picture_s_split_and_nothing_else(root: Path) -> None:
    whole, samples = read(root), read(root, validation_fraction=0.5)
    assert sorted(sample.split for sample in samples) == ["test"] * 2 + ["train"] * 2 + ["validation"] * 2
    for one, other in zip(samples, whole, strict=True):
        assert one.split == other.split or (one.split, other.split) == ("validation", "train")
        assert one.name == other.name
        np.testing.assert_array_equal(one.image, other.image)


def test_crowd_regions_are_flagged(root: Path) -> None:
    crowds = [int(sample.crowd.sum()) for sample in read(root)]
    assert crowds == [1, 0, 0, 0, 0, 0]


def test_pictures_are_those_of_the_files_which_come_along(root: Path) -> None:
    for sample in read(root):
        path = root / "images" / sample.name
        np.testing.assert_array_equal(sample.image, np.asarray(Image.open(path).convert("RGB")))
        assert sample.file == PictureFile(path.read_bytes())


def test_pictures_come_in_the_order_of_their_ids(root: Path) -> None:
    tree = json.loads((root / "instances.json").read_text())
    tree["images"].reverse()
    write_tree(root, tree)
    names = [sample.name for sample in read(root)]
    assert names == sorted(names)


def test_leaves_out_pictures_without_objects_of_the_classes(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree = make_coco(root, 6, seed=1)
    tree["annotations"] = [a for a in tree["annotations"] if a["image_id"] != 3 or a["category_id"] == 62]
    tree["annotations"] = [a for a in tree["annotations"] if a["image_id"] != 1 or a["iscrowd"]]
    write_tree(root, tree)
    with caplog.at_level(logging.WARNING):
        names = [sample.name for sample in read(root)]
    assert names == [f"{index:012d}.png" for index in (2, 4, 5, 6)]
    assert "images without an object of the classes 2" in caplog.text


def test_limit_counts_kept_pictures(root: Path) -> None:
    assert [sample.name[-5:] for sample in read(root, limit=3)] == ["1.png", "2.png", "3.png"]


def test_small_objects_of_a_large_picture_stay(root: Path) -> None:
    tree = make_coco(root, 6, seed=1)
    Image.new("RGB", (4000, 3000), "white").save(root / "images" / tree["images"][0]["file_name"])
    tree["images"][0] |= {"width": 4000, "height": 3000}
    tree["annotations"] = [a for a in tree["annotations"] if not a["iscrowd"]]
    for annotation in tree["annotations"]:
        if annotation["image_id"] == 1:
            annotation |= {"bbox": [9, 9, 3, 3], "segmentation": [[9, 9, 12, 9, 12, 12]]}
    write_tree(root, tree)
    sample = read(root)[0]
    assert sample.boxes.tolist() == [[9, 9, 12, 12]] * len(sample.labels)
    assert 0 < sample.masks.pixels().sum() <= 9 * len(sample.labels)


def test_categories_without_supercategory_go_by_their_name(root: Path) -> None:
    tree = make_coco(root, 6, seed=1)
    before = [sample.labels.tolist() for sample in read(root)]
    tree["categories"] = [{"id": 1, "name": "Vehicle"}, {"id": 2, "name": "person"}, {"id": 3, "name": "animal"}]
    tree["annotations"] = [a for a in tree["annotations"] if a["category_id"] != 62]
    write_tree(root, tree)
    assert [sample.labels.tolist() for sample in read(root)] == before


def test_coco_s_own_layout(tmp_path: Path) -> None:
    make_coco(tmp_path, 6, seed=1)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "instances.json").rename(tmp_path / "annotations" / "instances_val2017.json")
    (tmp_path / "annotations" / "instances_train2017.json").write_text("{}")
    refuses(tmp_path, "instances_train2017.json: expected a list 'images'")  # both with the pictures in images/
    (tmp_path / "images").rename(tmp_path / "val2017")
    assert len(read(tmp_path)) == 6


def first(tree: Tree) -> Tree:
    return next(a for a in tree["annotations"] if a["category_id"] != 62)


def put(section: str, **values: Any) -> Callable[[Tree], None]:
    """Changes the first entry of a section; of annotations, the first of a class that counts."""

    def change(tree: Tree) -> None:
        (first(tree) if section == "annotations" else tree[section][0]).update(values)

    return change


BROKEN = {
    "unknown category": (put("annotations", category_id=99), "annotations[", "category_id 99"),
    "unknown image": (put("annotations", image_id=99), "image_id 99"),
    "duplicate annotation": (put("annotations", id=2), "each id once", "2 again"),
    "duplicate image": (put("images", id=2), "images[1]", "2 again"),
    "duplicate category": (put("categories", id=2), "categories[1]", "2 again"),
    "duplicate file": (put("images", file_name="000000000002.png"), "each file_name once"),
    "missing image": (put("images", file_name="nowhere.png"), "nowhere.png", "no such file"),
    "escape": (put("images", file_name="../instances.json"), "inside the image folder"),
    "absolute": (put("images", file_name="/etc/passwd"), "inside the image folder"),
    "windows escape": (put("images", file_name="a\\..\\..\\x.png"), "inside the image folder"),
    "windows drive": (put("images", file_name="C:\\x.png"), "inside the image folder"),
    "nul": (put("images", file_name="a\0b"), "inside the image folder"),
    "no file name": (put("images", file_name=7), "file_name"),
    "size": (put("images", height=241), "pixels, as the json says"),
    "huge": (put("images", height=10**9), "from 1 to"),
    "text size": (put("images", width="320"), "'width'"),
    "text id": (put("images", id="1"), "'id'"),
    "short box": (put("annotations", bbox=[1, 2, 3]), "four numbers"),
    "nan box": (put("annotations", bbox=[1, 2, float("nan"), 3]), "four numbers"),
    "negative box": (put("annotations", bbox=[50, 50, -20, 10]), "four numbers"),
    "box outside": (put("annotations", bbox=[1, 1, 900, 10]), "inside the picture"),
    "box elsewhere": (put("annotations", bbox=[0, 0, 1.5, 1.5]), "a mask inside its box"),
    "no segmentation": (put("annotations", segmentation=None), "a segmentation"),
    "wrong runs": (put("annotations", segmentation={"size": [1, 1], "counts": [1]}), "annotation 1", "run lengths"),
    "iscrowd": (put("annotations", iscrowd="yes"), "iscrowd"),
    "null entry": (lambda tree: tree["annotations"].insert(0, None), "annotations[0]"),
    "no images": (lambda tree: tree.pop("images"), "'images'"),
    "categories no list": (lambda tree: tree.update(categories={}), "'categories'"),
    "no class": (
        lambda tree: tree.update(categories=tree["categories"][3:], annotations=[]),
        "a category of the classes vehicle",
    ),
    "no objects": (lambda tree: tree.update(annotations=[]), "objects of the classes vehicle"),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_refuses_read_strictly(tmp_path: Path, case: str) -> None:
    change, *words = BROKEN[case]
    tree = copy.deepcopy(make_coco(tmp_path, 6, seed=1))
    change(tree)
    write_tree(tmp_path, tree)
    refuses(tmp_path, "instances.json" if case != "size" else "000000000001.png", *words, strict=True)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", "[" * 100_000, "{'images': []}"])
def test_refuses_what_is_no_json(root: Path, text: str) -> None:
    (root / "instances.json").write_text(text)
    refuses(root, "instances.json")


def test_refuses_bytes_that_are_no_text(root: Path) -> None:
    (root / "instances.json").write_bytes(b"\xff\xfe\x00\x01")
    refuses(root, "instances.json", "JSON")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_refuses_broken_pictures_read_strictly(root: Path, content: bytes) -> None:
    (root / "images" / "000000000002.png").write_bytes(content)
    refuses(root, "000000000002.png", "a picture that can be read", strict=True)


def test_refuses_truncated_pictures_read_strictly(root: Path) -> None:
    path = root / "images" / "000000000002.png"
    path.write_bytes(path.read_bytes()[:5000])
    refuses(root, "000000000002.png", "a picture that can be read", strict=True)


def test_reads_gray_and_transparent_pictures(root: Path) -> None:
    for name, mode in (("000000000001.png", "L"), ("000000000002.png", "RGBA"), ("000000000003.png", "P")):
        path = root / "images" / name
        Image.open(path).convert(mode).save(path)
    assert len(read(root)) == 6

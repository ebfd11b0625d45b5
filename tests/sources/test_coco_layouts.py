"""Where tools put json and pictures, which part is which split, and what the lines say where nothing or much fits."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from src.core.data_params import CocoParams
from src.core.errors import InputError
from src.sources.coco.layouts import find_layout, split_named
from src.sources.coco.source import open_coco
from tests.factories import data_params, make_coco

GUESS = CocoParams("", "", "", "supercategories")


def lay(root: Path, instances: str, images: str, count: int = 4, seed: int = 1) -> None:
    """A good set with its json and its pictures in places below `root`."""
    scratch = root.parent / f"of {root.name}"
    make_coco(scratch, count, seed, crowd=False)
    (root / instances).parent.mkdir(parents=True, exist_ok=True)
    (root / images).mkdir(parents=True, exist_ok=True)
    (scratch / "instances.json").rename(root / instances)
    for path in (scratch / "images").iterdir():
        path.rename(root / images / path.name)
    shutil.rmtree(scratch)


@pytest.mark.parametrize(
    ("instances", "images"),
    [
        ("instances.json", "images"),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_val2017.json", "images/val2017"),
        ("annotations/instances_default.json", "images"),
        ("annotations/instances_default.json", "images/default"),
        ("train/_annotations.coco.json", "train"),
        ("_annotations.coco.json", "."),
        ("result.json", "images"),
        ("labels.json", "data"),
    ],
)
def test_one_part(tmp_path: Path, instances: str, images: str) -> None:
    root = tmp_path / "set"
    lay(root, instances, images)
    samples = list(open_coco(data_params("coco", root)))
    assert [sample.name for sample in samples] == [f"{number:012d}.png" for number in range(1, 5)]
    assert Counter(sample.split for sample in samples) == {"train": 3, "test": 1}  # drawn


@pytest.mark.parametrize(
    "places",
    [
        {name: (f"annotations/instances_{name}.json", name) for name in ("train2017", "val2017")},
        {name: (f"annotations/instances_{name}.json", f"images/{name}") for name in ("Train", "Validation")},
        {name: (f"{name}/_annotations.coco.json", name) for name in ("train", "valid")},
    ],
)
def test_a_set_s_own_split_without_a_test_part(tmp_path: Path, places: dict[str, tuple[str, str]]) -> None:
    root = tmp_path / "set"
    (train, test) = places
    for count, place in zip((4, 3), places.values(), strict=True):
        lay(root, *place, count=count)
    samples = list(open_coco(data_params("coco", root)))
    assert [(sample.name, sample.split) for sample in samples] == [
        *((f"{train}/{number:012d}.png", "train") for number in range(1, 5)),
        *((f"{test}/{number:012d}.png", "test") for number in range(1, 4)),
    ]
    held = list(open_coco(data_params("coco", root, validation_fraction=0.5)))
    assert Counter(sample.split for sample in held) == {"train": 2, "validation": 2, "test": 3}


def test_a_set_s_own_three_parts(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name, count in (("train", 4), ("valid", 2), ("test", 3)):
        lay(root, f"{name}/_annotations.coco.json", name, count)
    samples = list(open_coco(data_params("coco", root, validation_fraction=0.5)))
    assert Counter(sample.split for sample in samples) == {"train": 4, "validation": 2, "test": 3}
    few = list(open_coco(data_params("coco", root, limit=5)))
    assert Counter(sample.split for sample in few) == {"train": 2, "validation": 1, "test": 1}


def test_two_parts_may_share_a_folder(tmp_path: Path) -> None:
    root = tmp_path / "set"
    lay(root, "annotations/instances_train.json", "images", 6)
    tree = json.loads((root / "annotations/instances_train.json").read_text())
    for name, images in (("train", tree["images"][:4]), ("val", tree["images"][4:])):
        ids = {entry["id"] for entry in images}
        part = {**tree, "images": images, "annotations": [a for a in tree["annotations"] if a["image_id"] in ids]}
        (root / f"annotations/instances_{name}.json").write_text(json.dumps(part))
    samples = list(open_coco(data_params("coco", root)))
    assert Counter(sample.split for sample in samples) == {"train": 4, "test": 2}


def test_a_part_without_pictures_is_none(tmp_path: Path) -> None:
    """COCO's annotations come for both splits; people often fetch the pictures of one."""
    root = tmp_path / "set"
    lay(root, "annotations/instances_val2017.json", "images/val2017")
    shutil.copy(root / "annotations/instances_val2017.json", root / "annotations/instances_train2017.json")
    (part,) = find_layout(root, GUESS).parts
    assert (part.images, part.split) == (root / "images/val2017", None)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("train", "train"), ("Train2014", "train"), ("training", "train"), ("train_2017", "train")),
        *(("val", "validation"), ("valid", "validation"), ("validation", "validation"), ("val2017", "validation")),
        *(("test", "test"), ("testing", "test"), ("default", None), ("trainval", None), ("minival2014", None)),
    ],
)
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_named(name) == split


def refuses(root: Path, *words: str, coco: CocoParams = GUESS) -> None:
    with pytest.raises(InputError) as caught:
        find_layout(root, coco)
    assert str(caught.value).isprintable()
    for word in words:
        assert word in str(caught.value)


def test_several_layouts_are_named(tmp_path: Path) -> None:
    root = tmp_path / "set"
    lay(root, "instances.json", "images")
    lay(root, "labels.json", "data")
    refuses(root, "one layout; data.coco.annotations", "found instances.json with images/, labels.json with data/")
    coco = CocoParams("labels.json", "data", "", "supercategories")
    assert len(list(open_coco(data_params("coco", root, coco=coco)))) == 4


@pytest.mark.parametrize("names", [("train2014", "train2017"), ("default", "train"), ("val", "test")])
def test_parts_that_are_no_train_and_test_are_named(tmp_path: Path, names: tuple[str, str]) -> None:
    root = tmp_path / "set"
    for name in names:
        lay(root, f"{name}/_annotations.coco.json", name)
    refuses(root, "found " + ", ".join(f"{name}/_annotations.coco.json" for name in sorted(names)))


def test_what_there_is_instead_is_named(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "dataset.yaml").write_text("")
    refuses(tmp_path, "instances.json with images/", "found neither but dataset.yaml, photos/")
    (tmp_path / "empty").mkdir()
    refuses(tmp_path / "empty", "found an empty folder")


@pytest.mark.parametrize(
    ("annotations", "images", "words"),
    [
        ("labels/mine.json", "", "both data.coco.annotations and data.coco.images"),
        ("", "photos", "found data.coco.images alone"),
        ("labels/none.json", "photos", "a file below data.root for 'data.coco.annotations'"),
        ("labels/mine.json", "nowhere", "a folder below data.root for 'data.coco.images'"),
        ("labels/mine.json", "..", "a folder below data.root for 'data.coco.images'"),
    ],
)
def test_paths_that_are_named_are_there_and_below_the_root(
    tmp_path: Path, annotations: str, images: str, words: str
) -> None:
    root = tmp_path / "set"
    lay(root, "labels/mine.json", "photos")
    refuses(root, words, coco=CocoParams(annotations, images, "", "supercategories"))


def test_paths_that_are_named_win(tmp_path: Path) -> None:
    root = tmp_path / "set"
    lay(root, "instances.json", "images")
    lay(root, "labels/mine.json", "photos", count=6, seed=2)
    coco = CocoParams("labels/mine.json", str(root / "photos"), "", "supercategories")
    assert len(open_coco(data_params("coco", root, coco=coco))) == 6

"""Which classes a set in COCO's format has: COCO's supercategories, its own categories, or groups of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.data_params import CATEGORIES, SUPERCATEGORIES, ClassesParam, CocoParams
from src.core.errors import InputError
from src.sources.coco.categories import Category, ClassRule
from src.sources.coco.source import CocoSource, open_coco
from src.structures.classes import MOST_CLASSES
from tests.factories import data_params, make_coco, write_tree

LITTER = ("Clear plastic bottle", "Drink can", "Cigarette", "Cup")
GROUPS = (("bottle", ("Clear plastic bottle",)), ("metal", ("Drink can", "Cigarette")))


def opened(root: Path, classes: ClassesParam, **changes: Any) -> CocoSource:
    return open_coco(data_params("coco", root, coco=CocoParams("", "", "", classes), **changes))


def renamed(root: Path, names: tuple[str, ...] = LITTER, above: str | None = "Litter", images: int = 12) -> None:
    """The factories' set (three categories and one that every picture has) with other names."""
    tree = make_coco(root, images, seed=1)
    for entry, name in zip(tree["categories"], names, strict=True):
        entry.update(name=name, supercategory=above)
    write_tree(root, tree)


def refusal(root: Path, classes: ClassesParam, **changes: Any) -> str:
    with pytest.raises(InputError) as error:
        opened(root, classes, **changes)
    assert str(error.value).isprintable()
    return str(error.value)


def test_each_category_is_a_class_in_the_order_of_the_ids(tmp_path: Path) -> None:
    renamed(tmp_path)
    tree = json.loads((tmp_path / "instances.json").read_text())
    tree["categories"].reverse()
    write_tree(tmp_path, tree)
    source = opened(tmp_path, CATEGORIES, strict=True)
    assert source.classes.names == LITTER
    ids = {1: 1, 2: 2, 3: 3, 62: 4}
    wanted: dict[str, list[int]] = {}
    for entry in tree["annotations"]:
        name = tree["images"][entry["image_id"] - 1]["file_name"]
        wanted.setdefault(name, []).append(ids[entry["category_id"]])
    assert {sample.name: sample.labels.tolist() for sample in source} == wanted


def test_a_mapping_joins_categories_and_passes_over_the_others(tmp_path: Path) -> None:
    renamed(tmp_path)
    source = opened(tmp_path, GROUPS)
    assert source.classes.names == ("bottle", "metal")
    assert {int(label) for sample in source for label in sample.labels} == {1, 2}
    assert source.findings.passed_over == {"objects of the category 'Cup'": 12}


@pytest.mark.parametrize("above", ["", None, "none"])
def test_coco_s_names_are_known_where_there_is_no_supercategory(tmp_path: Path, above: str | None) -> None:
    renamed(tmp_path, ("car", "person", "dog", "chair"), above)
    plain = tmp_path / "plain"
    make_coco(plain, 12, seed=1)
    found, expected = list(opened(tmp_path, SUPERCATEGORIES)), list(opened(plain, SUPERCATEGORIES))
    assert [sample.labels.tolist() for sample in found] == [sample.labels.tolist() for sample in expected]


def test_a_supercategory_of_another_kind_is_believed(tmp_path: Path) -> None:
    renamed(tmp_path, ("mouse", "person", "bear", "cat"), "toy")
    source = opened(tmp_path, SUPERCATEGORIES)
    assert {int(label) for sample in source for label in sample.labels} == {2}  # a person by its own name


def test_two_categories_of_a_name_may_have_supercategories_of_their_own() -> None:
    rule = ClassRule(SUPERCATEGORIES)
    categories = [Category(1, "mouse", "animal"), Category(2, "mouse", "electronic")]
    assert rule.labels(categories, rule_classes(rule, categories)) == {1: 3, 2: None}


def rule_classes(rule: ClassRule, categories: list[Category]) -> Any:
    from src.structures.classes import Classes  # noqa: PLC0415

    return Classes(rule.names(categories, (), Path("a.json")))


def test_a_set_of_other_classes_is_refused_with_what_it_has_and_what_would_take_it(tmp_path: Path) -> None:
    renamed(tmp_path)
    text = refusal(tmp_path, SUPERCATEGORIES)
    assert "a category of the classes vehicle, person, animal (data.coco.classes=categories takes each" in text
    assert text.endswith("found Clear plastic bottle, Drink can, Cigarette, Cup")


def test_no_object_of_the_classes_is_refused_with_the_counts_and_what_would_take_them(tmp_path: Path) -> None:
    tree = make_coco(tmp_path, 6, seed=1, crowd=False)
    for entry in tree["annotations"]:
        entry["category_id"] = 62
    write_tree(tmp_path, tree)
    text = refusal(tmp_path, SUPERCATEGORIES)
    assert "objects of the classes vehicle, person, animal (data.coco.classes=categories" in text
    assert "found chair" in text


def test_an_unknown_category_of_a_mapping_is_named_with_those_near_it(tmp_path: Path) -> None:
    renamed(tmp_path)
    for groups in ((("bottle", ("clear plastic bottle",)),), (*GROUPS, ("more", ("clear plastic bottle",)))):
        text = refusal(tmp_path, groups)
        assert f"data.coco.classes.{groups[-1][0]}" in text
        assert "such as 'Clear plastic bottle'" in text
        assert text.endswith("found 'clear plastic bottle'")


WRONG = {
    "twice": (("can", "can", "cup", "jar"), "each class's name once, found 'can' again"),
    "background": (("can", "background", "cup", "jar"), "the background is a class by itself"),
    "long": (("c" * 101, "can", "cup", "jar"), "a printable text of 1 to 100 characters"),
    "line break": (("a\nb", "can", "cup", "jar"), "a printable text"),
}


@pytest.mark.parametrize("case", WRONG)
def test_categories_that_cannot_be_classes_are_refused(tmp_path: Path, case: str) -> None:
    names, words = WRONG[case]
    renamed(tmp_path, names)
    assert words in refusal(tmp_path, CATEGORIES)
    if case == "twice":  # a mapping joins what has one name
        assert opened(tmp_path, (("can", ("can",)),)).classes.names == ("can",)


def test_far_too_many_categories_are_refused(tmp_path: Path) -> None:
    tree = make_coco(tmp_path, 6, seed=1)
    tree["categories"] += [{"id": 100 + n, "name": f"kind {n}"} for n in range(MOST_CLASSES)]
    write_tree(tmp_path, tree)
    assert f"1 to {MOST_CLASSES:,} classes, found {MOST_CLASSES + 4:,}" in refusal(tmp_path, CATEGORIES)


def test_parts_of_a_set_share_classes_by_name(tmp_path: Path) -> None:
    """Each part counts its ids anew; what only a later part has comes after."""
    trees = {}
    for part in ("train", "val"):
        folder = tmp_path / part
        tree = make_coco(folder, 8, seed=1, crowd=False)
        (folder / "instances.json").unlink()
        (folder / "images").rename(tmp_path / f"{part}2017")
        trees[part] = tree
    names = {"train": ("car", "can", "cup"), "val": ("cup", "can", "jar")}
    (tmp_path / "annotations").mkdir()
    for part, tree in trees.items():
        tree["categories"] = [{"id": n, "name": name} for n, name in enumerate(names[part], 1)]
        tree["annotations"] = [entry for entry in tree["annotations"] if entry["category_id"] != 62]
        (tmp_path / f"annotations/instances_{part}2017.json").write_text(json.dumps(tree))
    source = opened(tmp_path, CATEGORIES)
    assert source.classes.names == ("car", "can", "cup", "jar")
    by_split = {"train": {1: 1, 2: 2, 3: 3}, "test": {1: 3, 2: 2, 3: 4}}
    samples = list(source)
    pairs = [(one, other) for one in samples for other in samples if (one.split, other.split) == ("train", "test")]
    assert len(samples) == 16
    for one, other in pairs:
        if one.name.endswith(other.name.rsplit("/", 1)[-1]):
            ids = [next(n for n, label in by_split["train"].items() if label == found) for found in one.labels.tolist()]
            assert other.labels.tolist() == [by_split["test"][number] for number in ids]
    lone = (("glass", ("jar",)), ("rest", ("car", "can", "cup")))
    assert opened(tmp_path, lone).classes.names == ("glass", "rest")
    assert "such as 'jar'" in refusal(tmp_path, (*lone, ("more", ("jars",))))


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.text("abv", max_size=3), st.sampled_from(["", "animal", "none", "x"])),
        max_size=6,
    ),
    st.sampled_from([SUPERCATEGORIES, CATEGORIES, (("x", ("a", "b")),)]),
)
def test_any_categories_give_labels_of_the_classes_or_a_line(entries: list[Any], setting: ClassesParam) -> None:
    rule, categories = ClassRule(setting), [Category(*entry) for entry in entries]
    try:
        classes = rule_classes(rule, categories)
    except InputError:
        return
    labels = rule.labels(categories, classes)
    assert set(labels) == {one.number for one in categories}
    assert set(labels.values()) <= {None, *classes.labels}

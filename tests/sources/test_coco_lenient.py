"""COCO sets as tools write them: what is mended, what is left out and listed, what stays refused and why.

The mended sets give the samples of the good one to the last pixel.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.core.data_params import CocoParams
from src.core.errors import InputError
from src.sources import left_out
from src.sources.coco.source import CocoSource, open_coco
from src.structures.sample import Sample
from tests.factories import data_params, make_coco, write_tree

Tree = dict[str, Any]
COUNT = 12  # pictures


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_coco(tmp_path / "set", COUNT, seed=1)
    return tmp_path / "set"


def opened(root: Path, **changes: Any) -> tuple[CocoSource, list[Sample]]:
    source = open_coco(data_params("coco", root, **changes))
    return source, list(source)


def changed(root: Path, change: Callable[[Tree], Any]) -> None:
    tree = json.loads((root / "instances.json").read_text())
    change(tree)
    write_tree(root, tree)


def of_a_class(tree: Tree) -> list[dict[str, Any]]:
    """Objects of the three classes, one by one."""
    return [entry for entry in tree["annotations"] if entry["category_id"] != 62 and not entry["iscrowd"]]


def refused(root: Path, *words: str, **changes: Any) -> None:
    with pytest.raises(InputError) as caught:
        opened(root, **changes)
    assert str(caught.value).isprintable()
    for word in words:
        assert word in str(caught.value)


def assert_same(samples: list[Sample], others: list[Sample]) -> None:
    assert len(samples) == len(others)
    for one, other in zip(samples, others, strict=True):
        assert (one.name, one.split) == (other.name, other.split)
        for key in ("image", "boxes", "labels", "masks", "crowd"):
            np.testing.assert_array_equal(getattr(one, key), getattr(other, key), err_msg=f"{one.name}, {key}")


def every(section: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Tree], None]:
    def spoil(tree: Tree) -> None:
        for entry in of_a_class(tree) if section == "annotations" else tree[section]:
            change(entry)

    return spoil


def words_for_ids(tree: Tree) -> None:
    for entry in tree["images"]:
        entry["id"] = f"picture {entry['id']:02d}"
    for entry in tree["categories"]:
        entry["id"] = entry["name"]
    for entry in tree["annotations"]:
        entry["image_id"] = f"picture {entry['image_id']:02d}"
        entry["category_id"] = {1: "car", 2: "person", 3: "dog", 62: "chair"}[entry["category_id"]]


def text_ids(tree: Tree) -> None:
    for section in tree.values():
        for entry in section:
            entry |= {key: str(value) for key, value in entry.items() if key == "id" or key.endswith("_id")}


def pairs(polygon: list[float]) -> list[list[float]]:
    return np.reshape(polygon, (-1, 2)).tolist()


MENDED: dict[str, tuple[Callable[[Tree], Any], str]] = {
    "ids of digits": (text_ids, "id as text"),
    "ids of words": (words_for_ids, "id as text"),
    "no ids of objects": (lambda tree: [entry.pop("id") for entry in tree["annotations"]], "no id"),
    "ids twice": (lambda tree: tree["annotations"][5].update(id=tree["annotations"][4]["id"]), "repeated id"),
    "iscrowd null": (every("annotations", lambda entry: entry.update(iscrowd=None)), "iscrowd not 0 or 1"),
    "iscrowd false": (every("annotations", lambda entry: entry.update(iscrowd=False)), "iscrowd not 0 or 1"),
    "iscrowd text": (every("annotations", lambda entry: entry.update(iscrowd="0")), "iscrowd not 0 or 1"),
    "flat polygon": (
        every("annotations", lambda entry: entry.update(segmentation=entry["segmentation"][0])),
        "mask nested otherwise",
    ),
    "points": (
        every("annotations", lambda entry: entry.update(segmentation=pairs(entry["segmentation"][0]))),
        "mask nested otherwise",
    ),
    "polygons of points": (
        every("annotations", lambda entry: entry.update(segmentation=[pairs(entry["segmentation"][0])])),
        "mask nested otherwise",
    ),
    "run lengths in a list": (
        lambda tree: tree["annotations"][-1].update(segmentation=[tree["annotations"][-1]["segmentation"]]),
        "mask nested otherwise",
    ),
    "box of texts": (
        every("annotations", lambda entry: entry.update(bbox=[str(value) for value in entry["bbox"]])),
        "box of texts",
    ),
    "sizes as floats": (
        every("images", lambda entry: entry.update(height=float(entry["height"]), width=float(entry["width"]))),
        "size as text or float",
    ),
    "sizes as texts": (
        every("images", lambda entry: entry.update(height=str(entry["height"]))),
        "size as text or float",
    ),
    "no sizes": (every("images", lambda entry: [entry.pop("height"), entry.pop("width")]), "size from the picture"),
    "sizes of 0": (every("images", lambda entry: entry.update(height=0, width=0)), "size from the picture"),
    "folder": (
        every("images", lambda entry: entry.update(file_name="images/" + entry["file_name"])),
        "file_name with other folders",
    ),
    "backslash": (
        every("images", lambda entry: entry.update(file_name="photos\\batch\\" + entry["file_name"])),
        "file_name with other folders",
    ),
    "another machine": (
        every("images", lambda entry: entry.update(file_name="C:\\Users\\me\\images\\" + entry["file_name"])),
        "file_name with other folders",
    ),
    "relative": (
        every("images", lambda entry: entry.update(file_name="../../upload/" + entry["file_name"])),
        "file_name with other folders",
    ),
    "address": (
        every("images", lambda entry: entry.update(file_name="/data/local-files/%3Fd=x/" + entry["file_name"])),
        "file_name with other folders",
    ),
}


@pytest.mark.parametrize("name", MENDED)
def test_what_has_one_meaning_is_read_as_that(root: Path, name: str) -> None:
    change, mend = MENDED[name]
    _, good = opened(root)
    changed(root, change)
    source, samples = opened(root)
    assert_same(samples, good)
    assert set(source.findings.mended) == {mend}
    assert source.findings.left_out == ()


@pytest.mark.parametrize("name", sorted(MENDED.keys() - {"iscrowd false"}))  # in Python that is 0
def test_read_strictly_it_is_refused(root: Path, name: str) -> None:
    changed(root, MENDED[name][0])
    refused(root, "expected", strict=True)


def test_boxes_from_polygons(root: Path) -> None:
    _, good = opened(root)
    changed(root, every("annotations", lambda entry: entry.pop("bbox")))
    source, samples = opened(root)
    for one, other in zip(samples, good, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.02)  # polygons are rounded to hundredths
    assert set(source.findings.mended) == {"box from its polygons"}


def test_percent_signs_and_spaces_in_names(root: Path) -> None:
    (root / "images" / "000000000001.png").rename(root / "images" / "a ü.png")
    (root / "images" / "000000000002.png").rename(root / "images" / "b%20c.png")  # as it is, also where it decodes
    changed(root, lambda tree: tree["images"][0].update(file_name="a%20%C3%BC.png"))
    changed(root, lambda tree: tree["images"][1].update(file_name="b%20c.png"))
    _, samples = opened(root)
    assert [sample.name for sample in samples[:2]] == ["a ü.png", "b%20c.png"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark(root: Path, encoding: str) -> None:
    _, good = opened(root)
    (root / "instances.json").write_text((root / "instances.json").read_text(), encoding=encoding)
    assert_same(opened(root)[1], good)


def turn(root: Path, orientation: int) -> None:
    """Writes an EXIF orientation into the second picture, whose pixels stay as they are."""
    path, exif = root / "images" / "000000000002.png", Image.Exif()
    exif[0x0112] = orientation
    Image.open(path).copy().save(path, exif=exif)


def test_a_size_before_the_exif_turn_is_that_of_the_stored_pixels(root: Path) -> None:
    _, good = opened(root)
    turn(root, 6)
    source, samples = opened(root)
    assert_same(samples, good)
    assert source.findings.mended == {"EXIF turn": 1}
    refused(root, "000000000002.png", "pixels, as the json says", strict=True)


def test_a_size_after_the_exif_turn_is_that_of_the_upright_picture(root: Path) -> None:
    _, good = opened(root)
    turn(root, 3)
    source, samples = opened(root)
    assert source.findings.mended == {}
    np.testing.assert_array_equal(samples[1].image, good[1].image[::-1, ::-1])


def test_missing_sizes_are_those_of_the_upright_picture(root: Path) -> None:
    turn(root, 6)
    changed(root, lambda tree: tree["images"][1].update(height=None, width=None))
    stored = Image.open(root / "images" / "000000000002.png")
    listed = open_coco(data_params("coco", root)).pictures[1].picture.entry
    assert (listed.height, listed.width) == (stored.width, stored.height)


def test_a_box_over_the_border_is_cut(root: Path) -> None:
    def reach_out(tree: Tree) -> None:
        entry = of_a_class(tree)[0]
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x - 5 - x, y, width + 5 + x, height]

    changed(root, reach_out)
    source, samples = opened(root)
    assert source.findings.mended == {"box over the border": 1}
    boxes = samples[0].boxes[~samples[0].crowd]
    assert boxes[:, 0].min() == 0
    refused(root, "boxes inside the picture", strict=True)


LOST: dict[str, tuple[Callable[[Tree], Any], str, str]] = {
    "no mask": (lambda tree: of_a_class(tree)[3].update(segmentation=[]), left_out.OBJECTS, left_out.NO_MASK),
    "no mask, nested": (lambda tree: of_a_class(tree)[3].update(segmentation=[[]]), left_out.OBJECTS, left_out.NO_MASK),
    "no mask, null": (lambda tree: of_a_class(tree)[3].update(segmentation=None), left_out.OBJECTS, left_out.NO_MASK),
    "box outside": (lambda tree: of_a_class(tree)[3].update(bbox=[900, 9, 9, 9]), left_out.OBJECTS, left_out.OUTSIDE),
    "the same twice": (
        lambda tree: tree["annotations"].append(dict(of_a_class(tree)[3])),
        left_out.OBJECTS,
        left_out.REPEATED,
    ),
    "no object": (lambda tree: tree["annotations"].append("?"), left_out.OBJECTS, left_out.MALFORMED),
    "no picture": (lambda tree: tree["images"].append(7), left_out.IMAGES, left_out.MALFORMED),
    "the same picture twice": (
        lambda tree: tree["images"].append(dict(tree["images"][3])),
        left_out.IMAGES,
        left_out.REPEATED,
    ),
    "two names of a file": (
        lambda tree: (
            tree["images"].append(tree["images"][3] | {"id": 99, "file_name": "a/000000000004.png"})
            or tree["annotations"].append(of_a_class(tree)[3] | {"id": 999, "image_id": 99})
        ),
        left_out.IMAGES,
        left_out.REPEATED,
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_what_has_none_is_left_out_alone(root: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    change, kind, reason = LOST[name]
    _, good = opened(root)
    changed(root, change)
    with caplog.at_level(logging.WARNING):
        source, samples = opened(root)
    assert source.findings.reasons(kind, faults=True) == {reason: 1}
    assert (
        f"left out 1 of {source.findings.images if kind == left_out.IMAGES else source.findings.objects}" in caplog.text
    )
    lost = sum(len(sample.labels) for sample in good) - sum(len(sample.labels) for sample in samples)
    assert lost == (reason in (left_out.NO_MASK, left_out.OUTSIDE))
    refused(root, "instances.json", strict=True)


def test_of_two_pictures_with_one_id_neither_stays(root: Path) -> None:
    changed(root, lambda tree: tree["images"][0].update(id=2))
    source, samples = opened(root, largest_left_out=0.2)
    assert [sample.name[-6:] for sample in samples[:2]] == ["03.png", "04.png"]
    assert source.findings.reasons(left_out.IMAGES) == {left_out.REPEATED: 2}


def test_an_unreadable_picture_leaves_the_others_and_their_splits(root: Path) -> None:
    _, good = opened(root)
    (root / "images" / "000000000003.png").write_bytes(b"half a pic")
    source, samples = opened(root)
    assert_same(samples, [sample for sample in good if sample.name != "000000000003.png"])
    (entry,) = source.findings.left_out
    assert (entry.file, entry.entry) == (str(root / "images" / "000000000003.png"), "images[2]")
    assert entry.reason == left_out.UNREADABLE


def test_a_picture_whose_objects_are_all_left_out_goes_with_them(root: Path) -> None:
    def spoil(tree: Tree) -> None:
        for entry in of_a_class(tree):
            if entry["image_id"] == 5:
                entry["segmentation"] = [[1, 2, 3]]

    changed(root, spoil)
    source, samples = opened(root, largest_left_out=0.5)
    assert "000000000005.png" not in [sample.name for sample in samples]
    assert source.findings.reasons(left_out.IMAGES) == {left_out.NO_OBJECT: 1}
    assert source.findings.reasons(left_out.IMAGES, faults=True) == {}


def emptied(tree: Tree) -> None:
    """The second picture without any object, the third with a chair alone, the fourth with objects that are wrong."""
    tree["annotations"] = [
        entry
        for entry in tree["annotations"]
        if entry["image_id"] != 2 and (entry["image_id"] != 3 or entry["category_id"] == 62)
    ]
    for entry in of_a_class(tree):
        if entry["image_id"] == 4:
            entry["segmentation"] = []


@pytest.mark.parametrize("strict", [False, True])
def test_pictures_without_objects_are_kept_as_negatives_where_that_is_asked_for(root: Path, strict: bool) -> None:
    changed(root, emptied)
    if strict:
        changed(root, lambda tree: tree.update(annotations=[a for a in tree["annotations"] if a["image_id"] != 4]))
    counts = {}
    for keep in (False, True):
        source, samples = opened(root, keep_empty=keep, strict=strict, largest_left_out=1.0)
        counts[keep] = {sample.name[-6:-4]: len(sample.labels) for sample in samples}
        assert len(source) == len(samples)  # none was listed and then dropped
        passed = source.findings.passed_over.get("images without an object of the classes", 0)
        assert passed == (0 if keep else 2 + strict)
    assert counts[False].keys().isdisjoint({"02", "03", "04"})
    assert counts[True] == counts[False] | {"02": 0, "03": 0} | ({"04": 0} if strict else {})


def test_too_many_wrong_entries_refuse_the_set(root: Path) -> None:
    def spoil(tree: Tree) -> None:
        for entry in of_a_class(tree)[:4]:
            entry["segmentation"] = []

    changed(root, spoil)
    total = len(json.loads((root / "instances.json").read_text())["annotations"])
    words = f"found 4 of {total} to be left out: no mask 4; the first annotations[0]"
    refused(root, "at most 5 % of its objects wrong (data.largest_left_out)", words)
    assert opened(root, largest_left_out=0.5)[0].findings.reasons(left_out.OBJECTS) == {left_out.NO_MASK: 4}


def test_too_many_unreadable_pictures_refuse_the_set(root: Path) -> None:
    for number in (1, 2):
        (root / "images" / f"{number:012d}.png").write_bytes(b"")
    refused(root, "at most 5 % of its images wrong", f"2 of {COUNT}", f"{left_out.UNREADABLE} 2")
    # With a limit, the share is one of what was looked at.
    refused(root, "at most 50 % of its images wrong", "2 of 3", largest_left_out=0.5, limit=3)


def test_a_limit_passes_over_what_has_no_file(root: Path) -> None:
    (root / "images" / "000000000002.png").unlink()
    source, samples = opened(root, limit=4)
    assert [sample.name[-5:] for sample in samples] == ["1.png", "3.png", "4.png", "5.png"]
    assert source.findings.reasons(left_out.IMAGES) == {left_out.NO_FILE: 1}


def test_objects_per_image(root: Path) -> None:
    def crowd(tree: Tree) -> None:
        tree["annotations"] += [of_a_class(tree)[0] | {"id": 900 + number} for number in range(5)]

    changed(root, crowd)
    assert len(opened(root)[1]) == COUNT
    source, samples = opened(root, objects_per_image=5)
    assert len(samples) == COUNT - 1
    assert source.findings.reasons(left_out.IMAGES) == {left_out.TOO_MANY: 1}
    refused(root, "at most 5 objects in a picture (data.objects_per_image)", objects_per_image=5, strict=True)


def shares(entry: dict[str, Any]) -> None:
    entry["bbox"] = [value / 400 for value in entry["bbox"]]
    entry["segmentation"] = [[value / 400 for value in polygon] for polygon in entry["segmentation"]]


def corners(entry: dict[str, Any]) -> None:
    x, y, width, height = entry["bbox"]
    entry["bbox"] = [x, y, x + width, y + height]


WHOLE: dict[str, tuple[Callable[[Tree], Any], str]] = {
    "shares": (every("annotations", shares), "coordinates in pixels, found all from 0 to 1"),
    "crowds": (every("annotations", lambda entry: entry.update(iscrowd=1)), "objects with iscrowd 0, found iscrowd 1"),
    "mapping": (
        lambda tree: tree.update(annotations=dict(enumerate(tree["annotations"]))),
        "a list 'annotations' at the top level, found a mapping of",
    ),
    "text": (lambda tree: tree.update(images="images/"), "a list 'images' at the top level, found a str"),
    "other classes": (
        every("annotations", lambda entry: entry.update(category_id=62)),
        "objects of the classes vehicle, person, animal (data.coco.classes=categories takes each",
    ),
    "no masks": (every("annotations", lambda entry: entry.update(segmentation=[])), "data.boxes_as_masks=true trains"),
    "corners": (every("annotations", corners), "each bbox as x y width height, found x1 y1 x2 y2"),
}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", WHOLE)
def test_what_is_wrong_as_a_whole_is_refused_with_what_it_looks_like(root: Path, name: str, strict: bool) -> None:
    change, words = WHOLE[name]
    changed(root, lambda tree: tree["annotations"].pop())  # the crowd region
    changed(root, change)
    refused(root, "instances.json", words, strict=strict, largest_left_out=1.0)


def test_detections_are_no_instances(root: Path) -> None:
    (root / "instances.json").write_text(json.dumps([{"image_id": 1, "score": 0.5}]))
    refused(root, "found a list of 1 entries, detections in COCO's format for results")


@pytest.mark.parametrize("strict", [False, True])
def test_boxes_as_masks(root: Path, strict: bool) -> None:
    changed(root, every("annotations", lambda entry: entry.pop("segmentation")))
    source, samples = opened(root, boxes_as_masks=True, strict=strict)
    assert source.findings.mended["box as mask"] == sum((~sample.crowd).sum() for sample in samples)
    for sample in samples:
        for box, mask in zip(sample.boxes[~sample.crowd], sample.masks.keep(~sample.crowd), strict=True):
            ys, xs = np.nonzero(mask)
            around = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            np.testing.assert_allclose(around, box, atol=1)
            assert mask.sum() == pytest.approx(np.prod(box[2:] - box[:2]), rel=0.05)


def test_masks_that_are_there_stay_where_boxes_are_taken_for_others(root: Path) -> None:
    _, good = opened(root)
    changed(root, lambda tree: of_a_class(tree)[-1].update(segmentation=[]))
    source, samples = opened(root, boxes_as_masks=True)
    assert source.findings.mended == {"box as mask": 1}
    assert_same(samples[:-1], good[:-1])
    assert samples[-1].masks.pixels().sum() >= good[-1].masks.pixels().sum()


def link(root: Path, store: Path) -> None:
    """Moves all pictures into a store and leaves links to them."""
    store.mkdir(parents=True)
    for path in sorted((root / "images").iterdir()):
        path.rename(store / path.name)
        path.symlink_to(store / path.name)


@pytest.mark.parametrize("store", ["set/store", "store/of all", ".dvc/cache/files/md5/00", ".git/annex/objects/x"])
def test_links_are_followed_below_the_set_and_into_its_own_stores(tmp_path: Path, root: Path, store: str) -> None:
    _, good = opened(root)
    link(root, tmp_path / store)
    assert_same(opened(root)[1], good)
    refused(root, "a link out of its folder", strict=True)


@pytest.mark.parametrize("store", [".hidden", "../elsewhere"])
def test_links_to_elsewhere_refuse_the_set_unless_they_are_named(tmp_path: Path, root: Path, store: str) -> None:
    _, good = opened(root)
    place = (tmp_path / store / f"of {tmp_path.name}").resolve()
    link(root, place)
    refused(
        root,
        "below data.root, in a folder beside it, or in data.coco.store",
        "a link out of its folder, to",
        store[-9:],
    )
    assert_same(opened(root, coco=CocoParams("", "", str(place), "supercategories"))[1], good)


def test_one_link_to_elsewhere_refuses_the_set(tmp_path: Path, root: Path) -> None:
    path = root / "images" / "000000000001.png"
    path.rename(tmp_path / "secret.png")  # beside the set, not in a folder there
    path.symlink_to(tmp_path / "secret.png")
    refused(root, "a link out of its folder", largest_left_out=1.0)


def test_a_link_to_nothing_is_left_out(root: Path) -> None:
    """As git-annex leaves them for what was not fetched."""
    path = root / "images" / "000000000001.png"
    path.unlink()
    path.symlink_to(root.parent / "nowhere.png")
    assert opened(root)[0].findings.reasons(left_out.IMAGES) == {left_out.NO_FILE: 1}


def test_nothing_left_is_refused(root: Path) -> None:
    changed(root, lambda tree: tree.update(images=tree["images"][:2]))
    for number in (1, 2):
        (root / "images" / f"{number:012d}.png").write_bytes(b"")
    refused(root, "images to train on and to test on", largest_left_out=1.0)


def test_a_good_set_needs_nothing(root: Path) -> None:
    source, samples = opened(root)
    assert source.findings.left_out == ()
    assert source.findings.mended == {}
    assert_same(samples, opened(root, strict=True)[1])

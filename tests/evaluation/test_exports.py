"""What labeling tools import: a COCO set that our own reader takes back, and Label Studio's tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.core.files import write_json
from src.evaluation.exports import coco_instances, label_studio_tasks
from src.evaluation.rle import encode_masks
from src.sources.assignment import CLASSES
from src.sources.coco.source import open_coco
from tests.evaluation.test_outlines import disk, overlap
from tests.factories import data_params

HEIGHT, WIDTH = 300, 400


def shapes() -> dict[str, np.ndarray]:
    masks = {name: np.zeros((HEIGHT, WIDTH), bool) for name in ("disk", "ring", "parts", "small")}
    masks["disk"][20:120, 30:130] = disk(100, 48)
    masks["ring"][150:290, 200:340] = disk(140, 68, 25)
    masks["parts"][10:60, 300:350], masks["parts"][70:100, 310:340] = disk(50, 24, 9), True
    masks["small"][200:209, 20:32] = disk(12, 6)[2:11]
    return masks


def detection(name: str, score: float, mask: np.ndarray) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0] - 0.25, float(rows[0]), len(columns) + 0.5, float(len(rows))]
    return {"class": name, "score": score, "bbox": [float(v) for v in box], "segmentation": encode_masks(mask[None])[0]}


def record(name: str, *masks: np.ndarray, classes: tuple[str, ...] = CLASSES.names) -> dict[str, Any]:
    found = [detection(classes[n % len(classes)], 0.9 - n / 10, mask) for n, mask in enumerate(masks)]
    return {"name": name, "height": HEIGHT, "width": WIDTH, "detections": found}


def test_a_set_of_predictions_is_read_back_with_the_same_boxes_and_masks(tmp_path: Path) -> None:
    masks = list(shapes().values())
    records = [record("a b.png", *masks), record("deep/ü#1.png", *masks[::-1]), record("none.png")]
    for entry in records:
        (tmp_path / "images" / entry["name"]).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / entry["name"])
    write_json(tmp_path / "instances.json", coco_instances(records, CLASSES.names))
    source = open_coco(data_params("coco", str(tmp_path), train_fraction=0.5))
    samples = {sample.name: sample for sample in source}
    assert len(samples) == 2
    for entry in records[:2]:
        (sample,) = [sample for name, sample in samples.items() if Path(entry["name"]).name in name]
        assert sample.labels.tolist() == [CLASSES.label_of(one["class"]) for one in entry["detections"]]
        for number, one in enumerate(entry["detections"]):
            x, y, width, height = one["bbox"]
            assert sample.boxes[number].tolist() == pytest.approx([x, y, x + width, y + height])
        expected = masks if entry is records[0] else masks[::-1]
        assert min(overlap(*pair) for pair in zip(sample.masks, expected, strict=True)) >= 0.98
    assert not source.findings.left_out


def test_coco_s_json_names_all_classes_and_numbers_everything_from_1() -> None:
    masks, classes = list(shapes().values()), ("Drink can", "Bottle", "Lid")
    tree = coco_instances([record("a.jpg"), record("b.jpg", *masks[:2], classes=classes)], classes)
    assert [(one["id"], one["name"]) for one in tree["categories"]] == [(1, "Drink can"), (2, "Bottle"), (3, "Lid")]
    assert [(one["id"], one["file_name"], one["width"]) for one in tree["images"]] == [
        (1, "a.jpg", 400),
        (2, "b.jpg", 400),
    ]
    assert [(one["id"], one["image_id"], one["category_id"]) for one in tree["annotations"]] == [(1, 2, 1), (2, 2, 2)]
    for entry, mask in zip(tree["annotations"], masks, strict=False):
        assert entry["area"] == mask.sum()
        assert entry["iscrowd"] == 0
        assert 0 < entry["score"] < 1
        assert all(isinstance(value, float) for polygon in entry["segmentation"] for value in polygon)


def test_label_studio_s_polygons_are_in_percent_of_the_picture() -> None:
    square = np.zeros((HEIGHT, WIDTH), bool)
    square[30:150, 100:300] = True
    first, second = label_studio_tasks([record("pictures/my #1.jpg", square, shapes()["parts"]), record("b.jpg")])
    assert first["data"] == {"image": "/data/local-files/?d=pictures/my%20%231.jpg"}
    ((prediction,), (empty,)) = first["predictions"], second["predictions"]
    assert empty["result"] == []
    regions = prediction["result"]
    assert [(one["id"], one["value"]["polygonlabels"]) for one in regions] == [
        ("0-0", ["vehicle"]),
        ("1-0", ["person"]),
        ("1-1", ["person"]),
    ]
    assert sorted(regions[0]["value"]["points"]) == [[25, 10], [25, 50], [75, 10], [75, 50]]
    assert {(one["original_width"], one["original_height"], one["type"]) for one in regions} == {
        (400, 300, "polygonlabels")
    }
    assert len({one["id"] for one in regions}) == 3


def test_a_detection_without_pixels_is_left_out() -> None:
    entry = record("a.jpg", shapes()["disk"])
    entry["detections"].insert(
        0, entry["detections"][0] | {"segmentation": encode_masks(np.zeros((1, 300, 400), bool))[0]}
    )
    assert len(coco_instances([entry], CLASSES.names)["annotations"]) == 1
    assert [one["id"] for one in label_studio_tasks([entry])[0]["predictions"][0]["result"]] == ["0-0"]

"""The data model and COCO's json."""

import json

import numpy as np
import pytest
import torch

from src.data.dataset import DatasetFile
from src.evaluation.instances import GroundTruth, Instances, coco_ground_truth, coco_results
from src.sources.assignment import CLASSES
from src.structures.masks import Masks
from src.structures.sample import Sample
from tests.evaluation.scenes import found, truth
from tests.factories import make_dataset


def test_results_json_by_hand():
    entries = coco_results([truth(image_id=7)], [found([[1.25, 2.5, 5.75, 9.125]], [3], [0.5])])
    assert json.loads(json.dumps(entries)) == entries
    assert entries[0] == {
        "image_id": 7,
        "category_id": 3,
        "bbox": [1.25, 2.5, 4.5, 6.625],
        "score": 0.5,
        "segmentation": entries[0]["segmentation"],
    }
    assert entries[0]["segmentation"]["size"] == [40, 60]


def test_results_without_masks_have_no_segmentation():
    one = found([[1, 2, 5, 9]], [3], [0.5])
    bare = type(one)(one.boxes, one.labels, one.scores)
    assert set(coco_results([truth()], [bare])[0]) == {"image_id", "category_id", "bbox", "score"}


def test_ground_truth_json_by_hand():
    pictures = [
        truth([[0.5, 0.25, 4.75, 5.125], [1, 1, 3, 3]], [1, 2], [False, True], image_id=4),
        truth([[2.125, 2.75, 9.5, 9.25]], [3], unlabeled=[[0, 0, 1, 1]], image_id=5),
        truth(image_id=6),
    ]
    value = coco_ground_truth(pictures, CLASSES)
    assert [image["id"] for image in value["images"]] == [4, 5, 6]
    assert [entry["id"] for entry in value["annotations"]] == [1, 2, 3]  # 0 would mean "unmatched" to COCO
    assert [entry["iscrowd"] for entry in value["annotations"]] == [0, 1, 0]
    assert [entry["image_id"] for entry in value["annotations"]] == [4, 4, 5]
    assert value["annotations"][0]["area"] == 20  # pixels of the mask, not the box's 20.7
    boxes = [[0.5, 0.25, 4.25, 4.875], [1.0, 1.0, 2.0, 2.0], [2.125, 2.75, 7.375, 6.5]]
    assert [entry["bbox"] for entry in value["annotations"]] == boxes
    assert {c["id"]: c["name"] for c in value["categories"]} == {1: "vehicle", 2: "person", 3: "animal"}
    json.dumps(value, allow_nan=False)


def test_ground_truth_of_a_sample(tmp_path):
    masks = np.zeros((1, 300, 400), bool)
    masks[0, 10:20, 30:50] = True
    sample = Sample(
        name="train/000001",
        image=np.zeros((300, 400, 3), np.uint8),
        boxes=np.array([[30, 10, 50, 20]], np.float32),
        labels=np.array([2]),
        masks=Masks.from_pixels(masks),
        crowd=np.array([False]),
        unlabeled_boxes=np.zeros((0, 4), np.float32),
        unlabeled_labels=np.zeros(0, np.int64),
        split="train",
    )
    with DatasetFile(make_dataset(tmp_path / "d.h5", [sample])) as dataset:
        one = GroundTruth.from_dataset(dataset, 0, 11)
    assert (one.image_id, one.name, one.height, one.width) == (11, "train/000001", 300, 400)
    assert coco_ground_truth([one], CLASSES)["annotations"][0]["area"] == 200


def test_keep_takes_masks_and_proposals_along():
    boxes, proposals = [[0, 0, 2, 2], [0, 0, 3, 3], [0, 0, 4, 4]], [[0, 0, 5, 5], [0, 0, 6, 6], [0, 0, 7, 7]]
    three = found(boxes, [1, 2, 3], [0.1, 0.9, 0.5], proposals=proposals)
    kept = three.keep(three.scores > 0.3)
    assert kept.labels.tolist() == [2, 3]
    assert kept.masks == three.masks[1:]
    assert kept.proposals.tolist() == proposals[1:]
    assert three.keep(torch.tensor([2, 0])).labels.tolist() == [3, 1]
    assert three.keep(torch.tensor([2, 0])).proposals.tolist() == [proposals[2], proposals[0]]


def test_keep_without_masks_or_proposals():
    three = found([[0, 0, 2, 2]] * 3, [1, 2, 3], [0.1, 0.9, 0.5])
    assert three.keep(three.scores > 0.3).proposals is None
    bare = Instances(three.boxes, three.labels, three.scores)
    assert bare.keep(three.scores > 0.3).masks is None


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        coco_results([truth(), truth(image_id=1)], [found()])

"""What a picture holds and what was found in it, in the picture's own coordinates, and both as COCO's json.

COCO's formats are those of https://cocodataset.org/#format-data and #format-results. Annotation ids start at 1: COCO's
evaluators mark an unmatched detection with 0. Letters: n objects, h unlabeled objects, d detections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from src.data.dataset import DatasetFile
from src.evaluation.rle import Rle, mask_areas, to_xywh
from src.structures.classes import Classes


@dataclass(frozen=True)
class Instances:
    """What was found in one picture, in its own pixels: a detector's `Detections` taken back from the canvas.

    Attributes:
        boxes: x1 y1 x2 y2 in the source picture's pixels.
        labels: 1 and up.
        scores: probability of the label, 0 to 1, in any order.
        masks: one run-length mask of the source picture's size each; None where no masks were predicted.
        proposals: the RPN's box that each was refined from, in the source picture's pixels; None without an RPN.
    """

    boxes: Float32[Tensor, "d 4"]
    labels: Int64[Tensor, " d"]
    scores: Float32[Tensor, " d"]
    masks: list[Rle] | None = None
    proposals: Float32[Tensor, "d 4"] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def keep(self, chosen: Tensor) -> Instances:
        """The instances that `chosen`, bool [d] or int64 indices, picks."""
        indices = torch.arange(len(self))[chosen]
        masks = None if self.masks is None else [self.masks[i] for i in indices.tolist()]
        proposals = None if self.proposals is None else self.proposals[indices]
        return Instances(self.boxes[indices], self.labels[indices], self.scores[indices], masks, proposals)


@dataclass(frozen=True)
class GroundTruth:
    """What one picture holds.

    Attributes:
        image_id: the picture's number in COCO's json, unique.
        name: the picture's name in its source.
        height: of the source picture, pixels.
        width: of the source picture, pixels.
        boxes: x1 y1 x2 y2 in the source picture's pixels.
        labels: 1 and up.
        masks: one run-length mask each.
        crowd: regions of many objects, in which detections count neither as right nor as wrong.
        unlabeled_boxes: objects that are in the picture but not in its annotation, where the source knows them.
        unlabeled_labels: their classes.
    """

    image_id: int
    name: str
    height: int
    width: int
    boxes: Float32[Tensor, "n 4"]
    labels: Int64[Tensor, " n"]
    masks: list[Rle]
    crowd: Bool[Tensor, " n"]
    unlabeled_boxes: Float32[Tensor, "h 4"]
    unlabeled_labels: Int64[Tensor, " h"]

    @classmethod
    def from_dataset(cls, dataset: DatasetFile, row: int, image_id: int) -> GroundTruth:
        """The ground truth of a picture of the dataset file; the picture is not read."""
        height, width = dataset.source_size(row)
        return cls(
            image_id=image_id,
            name=dataset.names[row],
            height=height,
            width=width,
            boxes=torch.from_numpy(dataset.boxes(row)),
            labels=torch.from_numpy(dataset.labels(row)),
            masks=list(dataset.masks(row).codes),
            crowd=torch.from_numpy(dataset.crowd(row)),
            unlabeled_boxes=torch.from_numpy(dataset.unlabeled_boxes(row)),
            unlabeled_labels=torch.from_numpy(dataset.unlabeled_labels(row)),
        )


def coco_results(ground_truth: Sequence[GroundTruth], detections: Sequence[Instances]) -> list[dict[str, Any]]:
    """COCO's results: one dict a detection, with `segmentation` where masks were predicted.

    Args:
        ground_truth: the pictures, for their image ids.
        detections: of the same pictures in the same order.

    Raises:
        ValueError: the two differ in length.
    """
    return [
        entry
        for truth, found in zip(ground_truth, detections, strict=True)
        for entry in _picture_results(truth.image_id, found)
    ]


def _picture_results(image_id: int, found: Instances) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = [
        {"image_id": image_id, "category_id": label, "bbox": box, "score": score}
        for label, box, score in zip(found.labels.tolist(), to_xywh(found.boxes), found.scores.tolist(), strict=True)
    ]
    for entry, code in zip(entries, found.masks or [], strict=found.masks is not None):
        entry["segmentation"] = code
    return entries


def coco_ground_truth(ground_truth: Sequence[GroundTruth], classes: Classes) -> dict[str, Any]:
    """COCO's instances json of the pictures: `images`, `annotations`, `categories`; unlabeled objects stay out."""
    images = [{"id": t.image_id, "file_name": t.name, "height": t.height, "width": t.width} for t in ground_truth]
    annotations = [entry for truth in ground_truth for entry in _picture_annotations(truth)]
    for number, entry in enumerate(annotations, start=1):
        entry["id"] = number
    categories = [{"id": label, "name": name} for name, label in classes.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _picture_annotations(truth: GroundTruth) -> list[dict[str, Any]]:
    columns = zip(
        truth.labels.tolist(),
        to_xywh(truth.boxes),
        truth.masks,
        mask_areas(truth.masks),
        truth.crowd.tolist(),
        strict=True,
    )
    return [
        {
            "id": 0,
            "image_id": truth.image_id,
            "category_id": label,
            "bbox": box,
            "area": area,
            "segmentation": code,
            "iscrowd": int(crowd),
        }
        for label, box, code, area, crowd in columns
    ]


def ground_truth_of(tree: Mapping[str, Any]) -> list[GroundTruth]:
    """The pictures of `coco_ground_truth`'s json, in its order; unlabeled objects are not in it.

    Raises:
        KeyError, TypeError, ValueError: it is of another making.
    """
    by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in tree["images"]}
    for entry in tree["annotations"]:
        by_image[entry["image_id"]].append(entry)
    return [_picture_truth(image, by_image[image["id"]]) for image in tree["images"]]


def _picture_truth(image: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> GroundTruth:
    corners = [[x, y, x + width, y + height] for x, y, width, height in (entry["bbox"] for entry in entries)]
    return GroundTruth(
        image_id=image["id"],
        name=image["file_name"],
        height=image["height"],
        width=image["width"],
        boxes=torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([entry["category_id"] for entry in entries], dtype=torch.int64),
        masks=[entry["segmentation"] for entry in entries],
        crowd=torch.tensor([bool(entry["iscrowd"]) for entry in entries], dtype=torch.bool),
        unlabeled_boxes=torch.zeros((0, 4)),
        unlabeled_labels=torch.zeros(0, dtype=torch.int64),
    )

"""Predictions as labeling tools import them, so that a person corrects objects in place of drawing them.

COCO's json is that of https://cocodataset.org/#format-data, which CVAT imports as "COCO 1.0": one annotation an object,
with a polygon for each part (`outlines`) and its `score`. Label Studio's is a list of tasks with predictions,
https://labelstud.io/guide/predictions, whose polygons have corners in percent; there each part is a region of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from src.evaluation.outlines import mask_polygons
from src.evaluation.rle import decode_masks, mask_areas

Record: TypeAlias = Mapping[str, Any]  # of a picture: name, height, width, detections, as `predict` writes them

LOCAL_FILES: Final = "/data/local-files/?d="  # Label Studio's address of a file below its document root
CHOICE: Final = "label"  # what its templates of labeling setups call the choice of classes
IMAGE: Final = "image"


def coco_instances(records: Sequence[Record], classes: Sequence[str]) -> dict[str, Any]:
    """`images`, `annotations` and `categories`, with ids from 1.

    Args:
        records: of the pictures; `name` is the file's below the folder of images.
        classes: every class that a detection may have, in the order of their ids.
    """
    categories = [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(classes, start=1)]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, record in enumerate(records, start=1):
        size = {"height": record["height"], "width": record["width"]}
        images.append({"id": image_id, "file_name": record["name"], **size})
        for found, polygons in _outlined(record):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": classes.index(found["class"]) + 1,
                    "bbox": found["bbox"],
                    "area": mask_areas([found["segmentation"]])[0],
                    "segmentation": polygons,
                    "iscrowd": 0,
                    "score": found["score"],
                }
            )
    return {"images": images, "annotations": annotations, "categories": categories}


def label_studio_tasks(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A task for each picture, with its polygons as one prediction.

    Args:
        records: of the pictures; `name` is the file's below Label Studio's document root.
    """
    return [
        {
            "data": {IMAGE: LOCAL_FILES + quote(record["name"])},
            "predictions": [{"model_version": "mask-rcnn-laboratory", "result": list(_regions(record))}],
        }
        for record in records
    ]


def _regions(record: Record) -> Iterator[dict[str, Any]]:
    """Label Studio's regions of a picture: one for each part of each object."""
    width, height = record["width"], record["height"]
    for number, (found, polygons) in enumerate(_outlined(record)):
        for part, polygon in enumerate(polygons):
            corners = zip(polygon[::2], polygon[1::2], strict=True)
            yield {
                "id": f"{number}-{part}",
                "type": "polygonlabels",
                "from_name": CHOICE,
                "to_name": IMAGE,
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "score": found["score"],
                "value": {
                    "points": [[100 * x / width, 100 * y / height] for x, y in corners],
                    "polygonlabels": [found["class"]],
                    "closed": True,
                },
            }


def _outlined(record: Record) -> Iterator[tuple[Mapping[str, Any], list[list[float]]]]:
    """Detections with the polygons of their masks, one mask decoded at a time; those of an empty mask are left out."""
    for found in record["detections"]:
        mask = decode_masks([found["segmentation"]], record["height"], record["width"])[0]
        if polygons := mask_polygons(mask):
            yield found, polygons

"""COCO's photos: an instances json with its image folder, letterboxed to the course's 300 x 400.

Layouts admitted under `data.root`: `instances.json` with `images/`, or COCO's own, `annotations/instances_X.json` with
`X/` or `images/X/`.

As detectron2 does, pictures without an object of the three classes are left out, and so are those that show crowd
regions only: they would not be negatives, since classes outside the three are not background a person would expect.
Objects that vanish when the picture is made smaller are left out too; a warning gives both counts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import ImageOps

from src.core.errors import invalid
from src.core.params import DataParams
from src.data.letterbox import Letterbox
from src.sources.checks import check_mask, clip_boxes
from src.sources.coco.annotations import Annotation, Picture, read_instances
from src.sources.coco.segmentation import decode
from src.sources.pictures import is_deep, opened, to_rgb
from src.sources.splits import limited, root_folder, split_names
from src.structures.sample import HEIGHT, WIDTH, Sample, Source, no_boxes, no_labels

logger = logging.getLogger(__name__)


def open_coco(params: DataParams) -> Source:
    """Opens the set in `data.root`.

    Raises:
        InputError: json or image folder are missing, or the json is wrong.
    """
    instances, images = find_files(root_folder(params))
    return CocoSource(instances, images, params)


def find_files(root: Path) -> tuple[Path, Path]:
    """The instances json and the image folder that belongs to it.

    Raises:
        InputError: there is no such pair, or more than one.
    """
    pairs = [(root / "instances.json", root / "images")]
    for path in sorted((root / "annotations").glob("instances_*.json")):
        name = path.stem.removeprefix("instances_")
        pairs += [(path, root / name), (path, root / "images" / name)]
    found = [(path, folder) for path, folder in pairs if path.is_file() and folder.is_dir()]
    if len(found) != 1:
        expected = "instances.json with images/, or annotations/instances_X.json with X/, once"
        raise invalid(root, expected, ", ".join(path.name for path, _ in found) or "neither")
    return found[0]


class CocoSource:
    """The pictures in the order of their ids, one in memory at a time."""

    def __init__(self, instances: Path, images: Path, params: DataParams) -> None:
        self.instances = instances
        self.images = images
        everything = read_instances(instances)
        usable = [picture for picture in everything if picture.has_objects]
        if not usable:
            raise invalid(instances, "objects of the three classes", "none", "annotations")
        if len(usable) < len(everything):
            counts = len(everything) - len(usable), len(everything)
            logger.warning("%s: left out %d of %d images, without vehicle, person or animal", instances, *counts)
        self.pictures = usable[: limited(len(usable), params)]
        self.splits = split_names(len(self.pictures), params)
        for picture in self.pictures:
            if violation := _misplaced(images, picture.file_name):
                raise invalid(instances, f"the image '{images / picture.file_name}'", violation, picture.file_name)

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[Sample]:
        vanished = 0
        for picture, split in zip(self.pictures, self.splits, strict=True):
            sample = self._sample(picture, split)
            vanished += len(picture.objects) - len(sample.labels)
            yield sample
        if vanished:
            logger.warning("%s: left out %d objects smaller than a pixel at 300 x 400", self.instances, vanished)

    def _sample(self, picture: Picture, split: str) -> Sample:
        """Decodes one picture and its objects."""
        letterbox = Letterbox(HEIGHT, WIDTH, WIDTH, picture.height, picture.width)
        image = letterbox.image_to_canvas(read_rgb(self.images / picture.file_name, picture.height, picture.width))
        objects = [(item, self._box(item, letterbox), self._mask(item, letterbox)) for item in picture.objects]
        objects = [(item, box, mask) for item, box, mask in objects if mask.any()]
        for item, box, mask in objects:
            check_mask(mask, box, self.instances, f"annotation {item.number}")
        return Sample(
            name=picture.file_name,
            image=image,
            boxes=np.stack([box for _, box, _ in objects]) if objects else no_boxes(),
            labels=np.array([item.label for item, _, _ in objects], np.int64),
            masks=np.stack([mask for _, _, mask in objects]) if objects else np.zeros((0, HEIGHT, WIDTH), bool),
            crowd=np.array([item.crowd for item, _, _ in objects], bool),
            unlabeled_boxes=no_boxes(),
            unlabeled_labels=no_labels(),
            split=split,
        )

    def _box(self, item: Annotation, letterbox: Letterbox) -> Float32[np.ndarray, " 4"]:
        x, y, width, height = item.box
        boxes = letterbox.boxes_to_canvas(np.array([[x, y, x + width, y + height]], np.float32))
        return clip_boxes(boxes, letterbox.region, self.instances, f"annotation {item.number}")[0]

    def _mask(self, item: Annotation, letterbox: Letterbox) -> Bool[np.ndarray, "300 400"]:
        try:
            mask = decode(item.segmentation, (letterbox.source_height, letterbox.source_width))
        except ValueError as error:
            raise invalid(self.instances, "polygons or run lengths", error, f"annotation {item.number}") from None
        return letterbox.masks_to_canvas(mask[None])[0]


def _misplaced(folder: Path, name: str) -> str | None:
    """What is wrong with the place of a picture; None if it is a file in the folder, also where links lead."""
    try:
        place = (folder / name).resolve(strict=True)
    except (OSError, RuntimeError):  # none, a name longer than the disk takes, links in a circle
        return "no such file"
    if not place.is_relative_to(folder.resolve()):
        return f"a link out of its folder, to '{place}'"
    return None if place.is_file() else "no such file"


def read_rgb(path: Path, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """Reads a picture of known size, turned as its EXIF entry says.

    Raises:
        InputError: it is missing, broken, too large for memory or of another size.
    """
    expected = f"{width} x {height} pixels, as the json says"
    with opened(path) as stored:
        size = stored.size  # known before the pixels are decoded
        image = ImageOps.exif_transpose(stored) if sorted(size) == sorted((width, height)) else None
        if image is None or image.size != (width, height):
            raise invalid(path, expected, "{} x {}".format(*(image.size if image else size)))
        return to_rgb(image) if is_deep(image) else np.asarray(image.convert("RGB"))

"""One picture of a set in COCO's format with its objects, decoded and letterboxed to the course's 300 x 400."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from src.core.errors import InputError, invalid
from src.data.letterbox import Letterbox
from src.sources.checks import TOLERANCE, check_mask, clip_boxes
from src.sources.coco.annotations import Annotation
from src.sources.coco.listing import ListedPicture
from src.sources.coco.picture_files import read_rgb
from src.sources.coco.segmentation import decode
from src.sources.left_out import (
    BAD_MASK,
    IMAGES,
    MASK_ELSEWHERE,
    NO_AREA,
    NO_OBJECT,
    OBJECTS,
    OUTSIDE,
    UNREADABLE,
    VANISHED,
    EntryError,
    Findings,
    LeftOut,
)
from src.structures.sample import HEIGHT, WIDTH, Sample, no_boxes, no_labels


@dataclass(frozen=True)
class DecodedObject:
    """An object on the 300 x 400 canvas; `is_cut` where its box reached over the picture's border."""

    label: int
    crowd: bool
    box: Float32[np.ndarray, " 4"]
    mask: Bool[np.ndarray, "300 400"]
    is_cut: bool


def read_sample(picture: ListedPicture, split: str, instances: Path, *, strict: bool) -> tuple[Sample | None, Findings]:
    """Decodes one picture and its objects.

    Args:
        picture: an entry of the json with its file.
        split: the one that it is in.
        instances: the json named in complaints.
        strict: raise where a file or an object is wrong.

    Returns:
        The sample, None where nothing usable is left of it; and what was met in its objects, and mended or left out.

    Raises:
        InputError: read strictly, naming what is wrong.
    """
    entry = picture.entry
    count = len(entry.objects)
    try:
        image, as_stored = read_rgb(picture.file, entry.height, entry.width, strict=strict)
    except (EntryError, InputError) as error:
        complaint = invalid(picture.file, error.expected, error.found) if isinstance(error, EntryError) else error
        if strict:
            raise complaint from None
        reason = error.reason if isinstance(error, EntryError) else UNREADABLE
        return None, Findings(0, count, (LeftOut(IMAGES, str(picture.file), entry.entry, reason, complaint.detail),))
    letterbox = Letterbox(HEIGHT, WIDTH, WIDTH, entry.height, entry.width)
    decoded = [_try(item, letterbox, instances, strict=strict) for item in entry.objects]
    objects = [item for item in decoded if isinstance(item, DecodedObject)]
    lost = [item for item in decoded if isinstance(item, LeftOut)]
    if not objects and not strict and (entry.lost or any(item.fault for item in lost)):
        detail = f"expected an object that can be used, found {count + len(entry.lost)} left out"
        lost.append(LeftOut(IMAGES, str(instances), entry.entry, NO_OBJECT, detail, fault=False))
        return None, Findings(0, count, tuple(lost))
    mended = Counter({"EXIF turn": int(as_stored), "box over the border": sum(item.is_cut for item in objects)})
    sample = _sample(picture.name, letterbox.image_to_canvas(image), objects, split)
    return sample, Findings(0, count, tuple(lost), dict(+mended))


def _sample(name: str, image: UInt8[np.ndarray, "300 400 3"], objects: Sequence[DecodedObject], split: str) -> Sample:
    return Sample(
        name=name,
        image=image,
        boxes=np.stack([item.box for item in objects]) if objects else no_boxes(),
        labels=np.array([item.label for item in objects], np.int64),
        masks=np.stack([item.mask for item in objects]) if objects else np.zeros((0, HEIGHT, WIDTH), bool),
        crowd=np.array([item.crowd for item in objects], bool),
        unlabeled_boxes=no_boxes(),
        unlabeled_labels=no_labels(),
        split=split,
    )


def _try(item: Annotation, letterbox: Letterbox, instances: Path, *, strict: bool) -> DecodedObject | LeftOut:
    """The object on the canvas, or why it is not there."""
    index = f"annotation {item.number}"
    try:
        box, is_cut = _box(item, letterbox, strict=strict)
        mask = _mask(item, letterbox)
        _check(mask, box)
    except EntryError as error:
        complaint = invalid(instances, error.expected, error.found, index)
        fault = error.reason not in (NO_AREA, VANISHED)  # the published files hold such, and strict reading forgives
        if strict and fault:
            raise complaint from None
        return LeftOut(OBJECTS, str(instances), index, error.reason, complaint.detail, fault)
    return DecodedObject(item.label, item.crowd, box, mask, is_cut)


def _box(item: Annotation, letterbox: Letterbox, *, strict: bool) -> tuple[Float32[np.ndarray, " 4"], bool]:
    """The box inside the picture, and whether it reached out further than by rounding."""
    x, y, width, height = item.box
    boxes = letterbox.boxes_to_canvas(np.array([[x, y, x + width, y + height]], np.float32))
    try:
        inside = clip_boxes(boxes, letterbox.region, Path(), 0, TOLERANCE if strict else math.inf)
    except InputError as error:
        raise EntryError(OUTSIDE, error.expected, error.found) from None
    return inside[0], bool(np.abs(inside - boxes).max() > TOLERANCE)


def _mask(item: Annotation, letterbox: Letterbox) -> Bool[np.ndarray, "300 400"]:
    try:
        mask = decode(item.segmentation, (letterbox.source_height, letterbox.source_width))
    except ValueError as error:
        raise EntryError(BAD_MASK, "polygons or run lengths", error) from None
    if not mask.any():
        raise EntryError(NO_AREA, "a mask with pixels", "an empty one")
    resized = letterbox.masks_to_canvas(mask[None])[0]
    if not resized.any():
        raise EntryError(VANISHED, f"a mask with pixels at {HEIGHT} x {WIDTH}", f"{int(mask.sum())} in its picture")
    return resized


def _check(mask: Bool[np.ndarray, "300 400"], box: Float32[np.ndarray, " 4"]) -> None:
    try:
        check_mask(mask, box, Path(), 0)
    except InputError as error:
        raise EntryError(MASK_ELSEWHERE, error.expected, error.found) from None

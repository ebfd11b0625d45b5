"""One picture of a set in COCO's format with its objects, decoded, in its own pixels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from src.core.errors import InputError, invalid
from src.sources.checks import TOLERANCE, check_mask, clip_boxes
from src.sources.coco.annotations import Annotation
from src.sources.coco.listing import ListedPicture
from src.sources.coco.picture_files import read_rgb
from src.sources.coco.segmentation import Size, decode
from src.sources.left_out import (
    BAD_MASK,
    IMAGES,
    MASK_ELSEWHERE,
    NO_AREA,
    NO_OBJECT,
    OBJECTS,
    OUTSIDE,
    UNREADABLE,
    EntryError,
    Findings,
    LeftOut,
)
from src.structures.masks import Masks, Rle, encode_masks
from src.structures.sample import HEIGHT, WIDTH, PictureFile, Sample, no_boxes, no_labels


@dataclass(frozen=True)
class DecodedObject:
    """An object in its picture's pixels; `is_cut` where its box reached over the picture's border."""

    label: int
    crowd: bool
    box: Float32[np.ndarray, " 4"]
    mask: Rle
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
        image, file = read_rgb(picture.file, entry.height, entry.width, strict=strict)
    except (EntryError, InputError) as error:
        complaint = invalid(picture.file, error.expected, error.found) if isinstance(error, EntryError) else error
        if strict:
            raise complaint from None
        reason = error.reason if isinstance(error, EntryError) else UNREADABLE
        return None, Findings(0, count, (LeftOut(IMAGES, str(picture.file), entry.entry, reason, complaint.detail),))
    size = entry.height, entry.width
    decoded = [_try(item, size, instances, strict=strict) for item in entry.objects]
    objects = [item for item in decoded if isinstance(item, DecodedObject)]
    lost = [item for item in decoded if isinstance(item, LeftOut)]
    if not objects and not strict and (entry.lost or any(item.fault for item in lost)):
        detail = f"expected an object that can be used, found {count + len(entry.lost)} left out"
        lost.append(LeftOut(IMAGES, str(instances), entry.entry, NO_OBJECT, detail, fault=False))
        return None, Findings(0, count, tuple(lost))
    mended = Counter({"EXIF turn": int(file.as_stored), "box over the border": sum(item.is_cut for item in objects)})
    sample = _sample(picture, image, file, objects, split)
    return sample, Findings(0, count, tuple(lost), dict(+mended))


def _sample(
    picture: ListedPicture,
    image: UInt8[np.ndarray, "h w 3"],
    file: PictureFile,
    objects: Sequence[DecodedObject],
    split: str,
) -> Sample:
    return Sample(
        name=picture.name,
        image=image,
        boxes=np.stack([item.box for item in objects]) if objects else no_boxes(),
        labels=np.array([item.label for item in objects], np.int64),
        masks=Masks(picture.entry.height, picture.entry.width, tuple(item.mask for item in objects)),
        crowd=np.array([item.crowd for item in objects], bool),
        unlabeled_boxes=no_boxes(),
        unlabeled_labels=no_labels(),
        split=split,
        file=file,
    )


def _try(item: Annotation, size: Size, instances: Path, *, strict: bool) -> DecodedObject | LeftOut:
    """The object in its picture, or why it is not there."""
    index = f"annotation {item.number}"
    try:
        box, is_cut = _box(item, size, strict=strict)
        mask = _mask(item, size)
        _check(mask, box)
    except EntryError as error:
        complaint = invalid(instances, error.expected, error.found, index)
        fault = error.reason != NO_AREA  # the published files hold such, and strict reading forgives
        if strict and fault:
            raise complaint from None
        return LeftOut(OBJECTS, str(instances), index, error.reason, complaint.detail, fault)
    return DecodedObject(item.label, item.crowd, box, encode_masks(mask[None])[0], is_cut)


def _box(item: Annotation, size: Size, *, strict: bool) -> tuple[Float32[np.ndarray, " 4"], bool]:
    """The box inside the picture, and whether it reached out further than by rounding."""
    x, y, width, height = item.box
    boxes = np.array([[x, y, x + width, y + height]], np.float32)
    tolerance = TOLERANCE * max(1.0, size[0] / HEIGHT, size[1] / WIDTH)  # tools that shrink a picture round in that
    try:
        content = 0.0, 0.0, float(size[1]), float(size[0])
        inside = clip_boxes(boxes, content, Path(), 0, tolerance if strict else math.inf)
    except InputError as error:
        raise EntryError(OUTSIDE, error.expected, error.found) from None
    return inside[0], bool(np.abs(inside - boxes).max() > tolerance)


def _mask(item: Annotation, size: Size) -> Bool[np.ndarray, "h w"]:
    try:
        mask = decode(item.segmentation, size)
    except ValueError as error:
        raise EntryError(BAD_MASK, "polygons or run lengths", error) from None
    if not mask.any():
        raise EntryError(NO_AREA, "a mask with pixels", "an empty one")
    return mask


def _check(mask: Bool[np.ndarray, "h w"], box: Float32[np.ndarray, " 4"]) -> None:
    try:
        check_mask(mask, box, Path(), 0)
    except InputError as error:
        raise EntryError(MASK_ELSEWHERE, error.expected, error.found) from None

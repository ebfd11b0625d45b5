"""Pictures for the tests of augmentation: noise with rectangles for objects, and what all variations have to keep.

Pictures are 48 x 32 at (6, 4) on a canvas of 60 x 40.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from src.data.letterbox import Letterbox
from src.data.prepared import Example
from src.structures.target import Target

HEIGHT, WIDTH = 40, 60
REGION = (6.0, 4.0, 54.0, 36.0)
LETTERBOX = Letterbox(HEIGHT, 48, WIDTH, 32, 48)
LEFT, TOP, RIGHT, BOTTOM = (int(side) for side in REGION)
BOX = st.tuples(st.integers(LEFT, RIGHT - 3), st.integers(TOP, BOTTOM - 3), st.integers(3, 48), st.integers(3, 32)).map(
    lambda box: (box[0], box[1], min(box[0] + box[2], RIGHT), min(box[1] + box[3], BOTTOM))
)
BOXES = st.lists(BOX, max_size=5)
SEEDS = st.integers(0, 2**20)
ABOVE = 11  # label of the first object that may be pasted

Box = Sequence[float]


def boxes_of(rows: Sequence[Box]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def scene(boxes: Sequence[Box] = (), crowd: Sequence[Box] = (), seed: int = 0, first_label: int = 1) -> Example:
    """Noise over the whole canvas, and rectangles that fill their boxes up to whole pixels, labels in their order."""
    image = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[round(y1) : round(y2), round(x1) : round(x2)] = True
    labels = torch.arange(first_label, first_label + len(boxes))
    target = Target(boxes_of(boxes), labels, masks, boxes_of(crowd))
    return Example(7, "noise", torch.from_numpy(image).permute(2, 0, 1), target, LETTERBOX)


def with_target(example: Example, **changes: Tensor) -> Example:
    return dataclasses.replace(example, target=dataclasses.replace(example.target, **changes))


def without_masks(example: Example) -> Example:
    """As it is read where masks are not asked for."""
    return with_target(example, masks=example.target.masks[:0])


def is_same(first: Example, second: Example) -> bool:
    """Byte by byte."""
    parts = [(getattr(first.target, one.name), getattr(second.target, one.name)) for one in dataclasses.fields(Target)]
    parts.append((first.image, second.image))
    names = (first.index, first.name) == (second.index, second.name)
    return names and all(one.dtype == other.dtype and torch.equal(one, other) for one, other in parts)


def assert_fits(found: Example, before: Example) -> None:
    """What every variation keeps: parts that fit each other and lie in the picture, and the canvas around it."""
    target = found.target
    assert len(target.boxes) == len(target.labels) == len(target.masks)
    assert (found.index, found.name) == (before.index, before.name)
    assert (found.image.dtype, found.image.shape) == (torch.uint8, (3, HEIGHT, WIDTH))
    for boxes in (target.boxes, target.crowd):
        assert (boxes >= torch.tensor([LEFT, TOP, LEFT, TOP])).all()
        assert (boxes <= torch.tensor([RIGHT, BOTTOM, RIGHT, BOTTOM])).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 2).all()
    outside = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    outside[TOP:BOTTOM, LEFT:RIGHT] = False
    assert torch.equal(found.image[:, outside], before.image[:, outside])
    assert not target.masks[:, outside].any()


def tight(pixels: Sequence[Sequence[int]]) -> list[int]:
    """The box around pixels (y, x), edges."""
    ys, xs = zip(*pixels, strict=True)
    return [min(xs), min(ys), max(xs) + 1, max(ys) + 1]


def plain_paste(below: Example, above: Example, chosen: Sequence[int]) -> Example:
    """Pixel by pixel."""
    image, masks = below.image.clone(), above.target.masks[list(chosen)]
    covered = {tuple(pixel) for mask in masks for pixel in mask.nonzero().tolist()}
    for y, x in covered:
        image[:, y, x] = above.image[:, y, x]
    kept, boxes, crowd = [], [], below.target.crowd.tolist()
    seen_masks = below.target.masks.clone()
    for number, (box, mask) in enumerate(zip(below.target.boxes.tolist(), seen_masks, strict=True)):
        pixels = {tuple(pixel) for pixel in mask.nonzero().tolist()}
        seen = pixels - covered
        for y, x in pixels & covered:
            mask[y, x] = False
        if seen == pixels:
            kept.append(number)
            boxes.append(box)
            continue
        x1, y1, x2, y2 = around = tight([*seen]) if seen else [0] * 4
        if x2 - x1 < 2 or y2 - y1 < 2:
            continue
        if 4 * len(seen) < len(pixels):
            crowd.append(around)
        else:
            kept.append(number)
            boxes.append(around)
    target = Target(
        boxes=torch.cat([boxes_of(boxes), above.target.boxes[list(chosen)]]),
        labels=torch.cat([below.target.labels[kept], above.target.labels[list(chosen)]]),
        masks=torch.cat([seen_masks[kept], masks]),
        crowd=boxes_of(crowd),
    )
    return dataclasses.replace(below, image=image, target=target)


def pasted(found: Example) -> list[int]:
    """Which objects of the other picture are in this one, told by their labels."""
    return [label - ABOVE for label in found.target.labels.tolist() if label >= ABOVE]

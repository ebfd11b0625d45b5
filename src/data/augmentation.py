"""Training pictures varied beyond mirroring: other scales and crops, other light, objects of other pictures pasted in.

All three are off by default, where the assignment has its pictures as they are. Scale jitter and pasting are those of
"Simple Copy-Paste" (Ghiasi et al., 2021, sections 3 and 4.1): objects are cut out along their masks and land where the
other picture's own scaling and cropping puts them.

What cropping or pasting leaves of an object decides what it teaches: most of it is an object still, a remnant is
neither object nor background, as a crowd region is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor
from torchvision.ops import masks_to_boxes
from torchvision.transforms.v2 import functional as transforms

from src.core.params import AugmentParams
from src.data.letterbox import ImageRegion
from src.data.prepared import Example
from src.ops.boxes import box_area, clip, is_inside, is_not_empty
from src.structures.target import Target

REMNANT: Final = 0.25  # an object of which less is left is ignored from then on
SMALLEST_SIDE: Final = 2.0  # canvas pixels; less of an object is left out
HALF_COVERED: Final = 128  # of 255
GRAY: Final = (124, 116, 104)  # beside a picture made smaller: ImageNet's mean color


@dataclass(frozen=True)
class Augmentation:
    """How much training pictures are varied.

    Attributes:
        scale_jitter: s: a picture is resized by a factor between 1 / (1 + s) and 1 + s, uniform in its logarithm, then
            cropped to its old size or laid on gray, at a random place.
        color_jitter: brightness, contrast and saturation change by up to this share.
        copy_paste: probability that objects of another picture are pasted in, each of its objects with one half.
    """

    scale_jitter: float
    color_jitter: float
    copy_paste: float

    @classmethod
    def from_params(cls, params: AugmentParams) -> Augmentation | None:
        """What `params.yaml` asks for; None where it leaves pictures as they are."""
        one = cls(params.scale_jitter, params.color_jitter, params.copy_paste)
        return one if any(dataclasses.astuple(one)) else None

    def __call__(self, example: Example, other: Callable[[], Example], draw: torch.Generator) -> Example:
        """A new variation of a picture; what lies outside its region of the canvas stays as it is.

        Args:
            example: the picture, with masks where objects may be pasted over it.
            other: reads another picture of the same kind, if it is needed.
            draw: decides everything.
        """
        pastes = _uniform(draw) < self.copy_paste
        example = self._rescaled(example, draw)
        if pastes:
            example = paste(example, self._rescaled(other(), draw), draw)
        return self._recolored(example, draw) if self.color_jitter else example

    def _rescaled(self, example: Example, draw: torch.Generator) -> Example:
        if not self.scale_jitter:
            return example
        factor = (1 + self.scale_jitter) ** (2 * _uniform(draw) - 1)
        return rescale(example, factor, (_uniform(draw), _uniform(draw)))

    def _recolored(self, example: Example, draw: torch.Generator) -> Example:
        x1, y1, x2, y2 = (int(side) for side in example.letterbox.region)
        picture = example.image[:, y1:y2, x1:x2]
        for change in (transforms.adjust_brightness, transforms.adjust_contrast, transforms.adjust_saturation):
            picture = change(picture, 1 + self.color_jitter * (2 * _uniform(draw) - 1))
        image = example.image.clone()
        image[:, y1:y2, x1:x2] = picture
        return dataclasses.replace(example, image=image)


def rescale(example: Example, factor: float, place: tuple[float, float]) -> Example:
    """The picture resized where it lies, and cropped to its old size or laid on gray.

    Args:
        example: the picture.
        factor: above 1 the picture grows and its border is lost.
        place: 0..1 across and down: of the part that is kept, or of the smaller picture on the gray.
    """
    region = example.letterbox.region
    x1, y1, x2, y2 = (int(side) for side in region)
    x, y = _Axis.resized(x1, x2, factor, place[0]), _Axis.resized(y1, y2, factor, place[1])
    image = example.image.clone()
    image[:, y1:y2, x1:x2] = torch.tensor(GRAY, dtype=torch.uint8)[:, None, None]
    image[:, y.after, x.after] = _resize(example.image[:, y.before, x.before], y, x)
    masks = torch.zeros_like(example.target.masks)
    if len(masks):
        soft = _resize(255 * example.target.masks[:, y.before, x.before].to(torch.uint8), y, x)
        masks[:, y.after, x.after] = soft >= HALF_COVERED
    scale, shift = torch.tensor([x.scale, y.scale] * 2), torch.tensor([x.shift, y.shift] * 2)
    boxes, crowd = (clip(one * scale + shift, region) for one in (example.target.boxes, example.target.crowd))
    left = box_area(boxes) / box_area(example.target.boxes * scale).clamp(min=1e-6)
    if len(masks):  # of an object that was seen and is no more, an empty corner of its box may remain
        left[example.target.masks.any(dim=(1, 2)) & ~masks.any(dim=(1, 2))] = 0
    moved = dataclasses.replace(example.target, boxes=boxes, crowd=crowd, masks=masks)
    return dataclasses.replace(example, image=image, target=_sorted_out(moved, left))


@dataclass(frozen=True)
class _Axis:
    """Along one axis: the pixels `before` become the pixels `after`, both counted on the canvas."""

    before: slice
    after: slice

    @classmethod
    def resized(cls, low: int, high: int, factor: float, place: float) -> _Axis:
        """For a picture that lies from `low` to `high` and is resized by `factor`."""
        length = high - low
        size = max(1, round(length * min(factor, 1 / factor)))  # of what is kept, or of the smaller picture
        start = low + round(place * (length - size))
        inner, outer = slice(start, start + size), slice(low, high)
        return cls(inner, outer) if factor > 1 else cls(outer, inner)

    @property
    def size(self) -> int:
        """Of `after`."""
        return int(self.after.stop - self.after.start)

    @property
    def scale(self) -> float:
        return self.size / (self.before.stop - self.before.start)

    @property
    def shift(self) -> float:
        return float(self.after.start - self.scale * self.before.start)


def _resize(images: UInt8[Tensor, "n h w"], y: _Axis, x: _Axis) -> UInt8[Tensor, "n h2 w2"]:
    """Bilinear, averaging where it shrinks."""
    resized: Tensor = transforms.resize(images, [y.size, x.size], antialias=True)
    return resized


def paste(below: Example, above: Example, draw: torch.Generator) -> Example:
    """Objects of `above`, each with a probability of one half, cut out and laid over `below`; both have masks.

    They keep their place on the canvas; what of them would lie beside the picture `below` is cut off. Boxes of what
    they cover shrink to what is still seen.
    """
    above = _within(above, below.letterbox.region)
    chosen = torch.rand(len(above.target.labels), generator=draw) < 0.5
    chosen &= above.target.masks.any(dim=(1, 2))  # of some a crop shows nothing but a corner of their box
    pasted = above.target.masks[chosen]
    covered = pasted.any(dim=0)
    if not covered.any():
        return below
    masks = below.target.masks & ~covered
    before, after = (one.sum(dim=(1, 2)) for one in (below.target.masks, masks))
    left = torch.where(before > 0, after / before.clamp(min=1), 1.0)  # what has no pixels cannot lose any
    changed = (after < before) & (after > 0)
    boxes = below.target.boxes.clone()
    boxes[changed] = _tight_boxes(masks[changed])
    seen = _sorted_out(dataclasses.replace(below.target, boxes=boxes, masks=masks), left)
    target = Target(
        boxes=torch.cat([seen.boxes, above.target.boxes[chosen]]),
        labels=torch.cat([seen.labels, above.target.labels[chosen]]),
        masks=torch.cat([seen.masks, pasted]),
        crowd=seen.crowd,
    )
    image = torch.where(covered, above.image, below.image)
    return dataclasses.replace(below, image=image, target=target)


def _within(example: Example, region: ImageRegion) -> Example:
    """The example with what its objects show inside `region`; as it is where its picture lies inside."""
    if bool(is_inside(torch.tensor([example.letterbox.region]), region)):
        return example
    x1, y1, x2, y2 = (int(side) for side in region)
    target, masks = example.target, torch.zeros_like(example.target.masks)
    masks[:, y1:y2, x1:x2] = target.masks[:, y1:y2, x1:x2]
    before, after = (one.sum(dim=(1, 2)) for one in (target.masks, masks))
    boxes, changed = clip(target.boxes, region), (after < before) & (after > 0)
    boxes[changed] = _tight_boxes(masks[changed])
    cut = dataclasses.replace(target, boxes=boxes, crowd=clip(target.crowd, region), masks=masks)
    return dataclasses.replace(example, target=_sorted_out(cut, after / before.clamp(min=1)))


def _sorted_out(target: Target, left: Float32[Tensor, " n"]) -> Target:
    """The target without objects and regions of which nothing is left; remnants become regions to ignore.

    Args:
        target: after the change.
        left: share of each object that the change left.
    """
    seen = is_not_empty(target.boxes, SMALLEST_SIDE) & (left > 0)
    whole, remnant = seen & (left >= REMNANT), seen & (left < REMNANT)
    crowd = torch.cat([target.crowd[is_not_empty(target.crowd, SMALLEST_SIDE)], target.boxes[remnant]])
    masks = target.masks[whole] if len(target.masks) else target.masks
    return Target(target.boxes[whole], target.labels[whole], masks, crowd)


def _tight_boxes(masks: Bool[Tensor, "n h w"]) -> Float32[Tensor, "n 4"]:
    """Around each mask's pixels, as edges: torchvision's end at the last pixel's own place."""
    boxes = masks_to_boxes(masks)
    boxes[:, 2:] += 1
    return boxes


def _uniform(draw: torch.Generator) -> float:
    return float(torch.rand((), generator=draw))

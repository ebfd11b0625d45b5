"""Puts objects on a background: where they stand, what covers what, light, shadow and the camera.

The ground truth follows from the drawing: a mask is the part of an object that shows (alpha above one half, not under
a nearer object, inside the picture), and a box is the tight box of that mask.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, ImageFilter

from src.sources.emoji.art import Pose, Shape, render
from src.sources.emoji.backgrounds import Picture, Size, noise, ramp

Box = Float32[np.ndarray, "4"]
Drawing = Float32[np.ndarray, "4 h w"]  # RGB and alpha (straight), in 0..1

CUT_SHARE: Final = 0.12  # share of objects pushed over the border
ANGLES: Final = 20.0  # degrees to either side
STRETCHES: Final = (0.8, 1.25)  # width against height
LEAST_VISIBLE: Final = 0.4  # share of an annotated object's pixels that must show
LEAST_VISIBLE_HIDDEN: Final = 0.85  # an object left out of the ground truth must be plain to see
LEAST_SIDE: Final = 14.0  # pixels, the shortest side of a box, as in the course's set
MOST_OVERLAP: Final = 0.45  # IoU of two boxes: less than what non-maximum suppression takes for one object
MOST_OVERLAP_HIDDEN: Final = 0.1
TRIES: Final = 12  # placements of objects of one size before they are made smaller
HUES: Final = {1: 0.5, 2: 0.03, 3: 0.06}  # turns of the color circle to either side, by class: paint varies, skin not


@dataclass(frozen=True)
class Actor:
    """An object to be placed.

    Attributes:
        shape: what it is.
        variant: which of the shape's colors.
        pose: size, angle, mirror.
        cut: whether the border should cut it.
        hidden: whether the ground truth leaves it out.
    """

    shape: Shape
    variant: int
    pose: Pose
    cut: bool = False
    hidden: bool = False


@dataclass(frozen=True)
class Layer:
    """A rendered object and where it stands; later layers are nearer.

    Attributes:
        actor: the object.
        pixels: its drawing.
        x: column of the drawing's left edge, possibly outside the picture.
        y: row of its upper edge.
    """

    actor: Actor
    pixels: UInt8[np.ndarray, "height width 4"]
    x: int
    y: int


def random_pose(rng: np.random.Generator, size: float) -> Pose:
    """A mild turn and stretch, mirrored half the time."""
    stretch = math.exp(rng.uniform(math.log(STRETCHES[0]), math.log(STRETCHES[1])))
    return Pose(size, rng.uniform(-ANGLES, ANGLES), stretch, bool(rng.integers(2)))


def arrange(rng: np.random.Generator, actors: Sequence[Actor], size: Size) -> list[Layer]:
    """Finds places where every object shows enough, making objects smaller while there are none.

    Args:
        rng: draws the places.
        actors: the objects, the farthest first.
        size: height and width of the picture.

    Returns:
        A layer for each object, in the same order.
    """
    while True:
        drawings = [render(actor.shape, actor.variant, actor.pose) for actor in actors]
        for _ in range(TRIES):
            layers = [
                Layer(actor, pixels, *_corner(rng, pixels.shape[:2], size, actor.cut))
                for actor, pixels in zip(actors, drawings, strict=True)
            ]
            if _acceptable(layers, size):
                return layers
        poses = [replace(actor.pose, size=max(40.0, 0.85 * actor.pose.size)) for actor in actors]
        actors = [replace(actor, pose=pose) for actor, pose in zip(actors, poses, strict=True)]


def visible_masks(layers: Sequence[Layer], size: Size) -> Bool[np.ndarray, "n height width"]:
    """The pixels of each layer that show."""
    masks = np.zeros((len(layers), *size), bool)
    covered = np.zeros(size, bool)
    for mask, layer in zip(masks[::-1], layers[::-1], strict=True):
        inside, part = _overlap(layer.pixels.shape[:2], layer.x, layer.y, size)
        own = layer.pixels[part][..., 3] > 127
        mask[inside] = own & ~covered[inside]
        covered[inside] |= own
    return masks


def tight_boxes(masks: Bool[np.ndarray, "n height width"]) -> Float32[np.ndarray, "n 4"]:
    """x1 y1 x2 y2 of each mask, pixel edges; zeros for an empty mask."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def paint(rng: np.random.Generator, picture: Picture, layers: Sequence[Layer]) -> Picture:
    """The background with each object's shadow and the object, lit and colored its own way."""
    picture = picture.copy()
    for layer in layers:
        if rng.uniform() < 0.6:
            _shadow(rng, picture, layer)
        _blend(picture, _lit(rng, layer), layer.x, layer.y)
    return picture


def photograph(rng: np.random.Generator, picture: Picture) -> UInt8[np.ndarray, "height width 3"]:
    """What a camera does: exposure, white balance, uneven light, blur, noise, JPEG."""
    size = picture.shape[1:]
    light = 255 * rng.uniform(0.85, 1.15) * (1 + rng.uniform(0, 0.25) * (ramp(rng, size) - 0.5))
    image = Image.fromarray(_to_bytes(picture * light))
    levels = np.linspace(0, 1, 256) ** rng.uniform(0.85, 1.2)
    curves = np.outer(rng.uniform(0.94, 1.06, 3), 255 * levels).clip(0, 255)
    image = image.point(curves.astype(int).ravel().tolist())
    if rng.uniform() < 0.5:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.1, 0.9)))
    grain = rng.standard_normal(size, dtype=np.float32) * rng.uniform(0, 6)
    image = Image.fromarray(_to_bytes(np.asarray(image).transpose(2, 0, 1) + grain))
    if rng.uniform() < 0.5:
        jpeg = io.BytesIO()
        image.save(jpeg, "JPEG", quality=int(rng.integers(55, 96)))
        image = Image.open(jpeg)
    return np.array(image)


def _to_bytes(planes: Float32[np.ndarray, "3 height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """Colors 0..255 as the bytes of a picture; `planes` is used up."""
    return np.ascontiguousarray(np.clip(planes, 0, 255, out=planes).astype(np.uint8).transpose(1, 2, 0))


def _corner(rng: np.random.Generator, own: Size, size: Size, cut: bool) -> tuple[int, int]:
    """Column and row of a drawing's upper left corner: inside where it fits, or over one border if `cut`."""
    edge = int(rng.integers(4)) if cut else -1
    corner = []
    for axis in (1, 0):
        room = size[axis] - own[axis]
        place = rng.uniform(min(room, 0), max(room, 0))
        over = rng.uniform(0.05, 0.6) * own[axis]
        if edge in (axis, axis + 2):  # 0 and 2: above and below; 1 and 3: left and right
            place = -over if edge < 2 else room + over
        corner.append(round(place))
    return corner[0], corner[1]


def _acceptable(layers: Sequence[Layer], size: Size) -> bool:
    """Whether each object shows enough of itself, is not too small, and stands apart from the others."""
    masks = visible_masks(layers, size)
    boxes = tight_boxes(masks)
    for i, (layer, mask, box) in enumerate(zip(layers, masks, boxes, strict=True)):
        hidden = layer.actor.hidden
        share = mask.sum() / (layer.pixels[..., 3] > 127).sum()
        if share < (LEAST_VISIBLE_HIDDEN if hidden else LEAST_VISIBLE) or min(box[2:] - box[:2]) < LEAST_SIDE:
            return False
        for other, near in zip(boxes[:i], layers[:i], strict=True):
            if _iou(box, other) > (MOST_OVERLAP_HIDDEN if hidden or near.actor.hidden else MOST_OVERLAP):
                return False
    return True


def _iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes with area."""
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    shared = float(np.prod(sides))
    return shared / (float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - shared)


def _overlap(own: Size, x: int, y: int, size: Size) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The rectangle a drawing shares with the picture: in the picture's pixels, and in the drawing's."""
    top, left = max(y, 0), max(x, 0)
    bottom, right = max(min(y + own[0], size[0]), top), max(min(x + own[1], size[1]), left)
    return (slice(top, bottom), slice(left, right)), (slice(top - y, bottom - y), slice(left - x, right - x))


def _blend(picture: Picture, drawing: Drawing, x: int, y: int) -> None:
    """Lays a drawing over the picture, in place."""
    (rows, columns), part = _overlap(drawing.shape[1:], x, y, picture.shape[1:])
    covered = drawing[:, part[0], part[1]]
    picture[:, rows, columns] += covered[3] * (covered[:3] - picture[:, rows, columns])


def _lit(rng: np.random.Generator, layer: Layer) -> Drawing:
    """The drawing with hue, saturation and brightness changed, lighter on one side."""
    drawing = np.ascontiguousarray(layer.pixels.transpose(2, 0, 1)) / np.float32(255)
    size = drawing.shape[1:]
    most = HUES.get(layer.actor.shape.label, 0.0)
    matrix = _color_matrix(2 * math.pi * rng.uniform(-most, most), rng.uniform(0.65, 1.15))
    shade = 1 + rng.uniform(0, 0.5) * (ramp(rng, size) - 0.5) + rng.uniform(0, 0.04) * noise(rng, size, 5)
    colors = (matrix @ drawing[:3].reshape(3, -1)).reshape(3, *size)
    drawing[:3] = np.clip(colors * (shade * rng.uniform(0.8, 1.12)), 0, 1)
    return drawing


def _color_matrix(turn: float, saturation: float) -> Float32[np.ndarray, "3 3"]:
    """Turns RGB columns about the gray axis by `turn` radians and scales their distance from it (YIQ, NTSC 1953)."""
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    cos, sin = saturation * math.cos(turn), saturation * math.sin(turn)
    change = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return (np.linalg.inv(to_yiq) @ change @ to_yiq).astype(np.float32)


def _shadow(rng: np.random.Generator, picture: Picture, layer: Layer) -> None:
    """Darkens the picture beside and below where the object will stand, in place."""
    reach = max(2, round(0.05 * layer.actor.pose.size))
    alpha = np.pad(layer.pixels[..., 3], 2 * reach)
    soft = np.asarray(Image.fromarray(alpha).filter(ImageFilter.BoxBlur(reach)))
    drawing = np.zeros((4, *soft.shape), np.float32)
    drawing[3] = soft * np.float32(rng.uniform(0.15, 0.45) / 255)
    aside, below = rng.integers(-reach, reach + 1), rng.integers(reach + 1)
    _blend(picture, drawing, layer.x - 2 * reach + int(aside), layer.y - 2 * reach + int(below))

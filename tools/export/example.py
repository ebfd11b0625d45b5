"""What the exported detector finds in a picture: `python detect.py my.jpg`. Needs onnxruntime, numpy and Pillow alone.

All that it must know of the detector is in the metadata of `detector.onnx`, which lies beside it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def detect(session: Any, picture: Any) -> list[tuple[str, float, Any, Any]]:
    """Class, score, box (x1 y1 x2 y2) and mask [h, w] of each object, in the pixels of an RGB picture of PIL's."""
    facts = json.loads(session.get_modelmeta().custom_metadata_map["detector"])
    (w, h), height, width, padded = picture.size, facts["height"], facts["width"], facts["padded_width"]
    if w * height >= h * width:
        size = width, max(1, (2 * h * width + w) // (2 * w))
    else:
        size = max(1, (2 * w * height + h) // (2 * h)), height
    left, top = (padded - size[0]) // 2, (height - size[1]) // 2
    pixels = np.asarray(picture.resize(size, Image.Resampling.BILINEAR)) / 255
    image = np.zeros((1, 3, height, padded), np.float32)  # normalized; 0 around the picture
    image[0, :, top : top + size[1], left : left + size[0]] = ((pixels - facts["mean"]) / facts["std"]).transpose(
        2, 0, 1
    )
    region = np.array([left, top, left + size[0], top + size[1]], np.float32)
    boxes, labels, scores, grids = session.run(None, {"image": image, "region": region})
    boxes = (boxes - [left, top, left, top]) * [w / size[0], h / size[1], w / size[0], h / size[1]]
    found = []
    for box, label, score, grid in zip(boxes, labels, scores, grids, strict=True):
        mask = tents(box[1], box[3], h, len(grid)) @ grid @ tents(box[0], box[2], w, len(grid)).T
        found.append((facts["classes"][label - 1], float(score), box, mask >= facts["mask_threshold"]))
    return [one for one in found if one[1] >= facts["score_threshold"]]


def tents(low: float, high: float, size: int, cells: int) -> Any:
    """Bilinear weights [size, cells] of a box's cells in each pixel along one axis."""
    points = (np.arange(size) + 0.5 - low) / (high - low) * cells - 0.5
    return np.clip(1 - abs(points[:, None] - np.arange(cells)), 0, None)


if __name__ == "__main__":
    model = onnxruntime.InferenceSession(Path(__file__).with_name("detector.onnx"))
    for name, score, box, mask in detect(model, ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")):
        print(f"{name} {score:.2f}, box {' '.join(f'{side:.1f}' for side in box)}, {mask.sum()} pixels")

"""Tiny valid sets in every format, for any test: pictures of 300 x 400 with plain colored shapes as objects.

Vehicles are blue boxes, people red ellipses, animals green triangles, over gray noise. `make_course` and `make_coco`
write files as the genuine sets have them; `make_samples` gives the same pictures in memory; `make_prepared` goes all
the way to a prepared file with a small canvas.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image, ImageDraw

from src.core.data_params import CocoParams, DataParams, EmojiParams
from src.core.params import PrepareParams
from src.data.dataset import DatasetFile, write_dataset
from src.data.prepared import write_prepared
from src.sources.assignment import CLASSES
from src.structures.masks import Masks
from src.structures.sample import HEIGHT, WIDTH, Sample, no_boxes, no_labels

COURSE_NAMES = {
    "images": "hw3_mycocodata_img_comp_zlib.h5",
    "masks": "hw3_mycocodata_mask_comp_zlib.h5",
    "labels": "hw3_mycocodata_labels_comp_zlib.npy",
    "boxes": "hw3_mycocodata_bboxes_comp_zlib.npy",
}
COLORS = {1: (30, 60, 220), 2: (220, 40, 30), 3: (20, 180, 60)}
SMALL = PrepareParams(96, 128, 160, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def data_params(source: str, root: Path | str = "", **changes: Any) -> DataParams:
    """The data section of params.yaml."""
    values: dict[str, Any] = {
        "limit": 0,
        "train_fraction": 0.8,
        "split_seed": 1,
        "validation_fraction": 0.0,
        "objects_per_image": 1000,
        "strict": False,
        "largest_left_out": 0.05,
        "boxes_as_masks": False,
        "keep_empty": False,
        "coco": CocoParams(annotations="", images="", store="", classes="supercategories"),
        "emoji": EmojiParams(4, 2, 0.0, 1),
    }
    return DataParams(source=source, root=str(root), **(values | changes))


def outline(label: int, box: Sequence[float]) -> list[tuple[float, float]]:
    """Corners of a class's shape inside a box."""
    x1, y1, x2, y2 = box
    if label == 1:
        return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    if label == 3:
        return [((x1 + x2) / 2, y1), (x2, y2), (x1, y2)]
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    xs, ys = (x1 + x2) / 2 + (x2 - x1) / 2 * np.cos(turn), (y1 + y2) / 2 + (y2 - y1) / 2 * np.sin(turn)
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def draw_objects(rng: np.random.Generator, height: int, width: int, count: int) -> tuple[Any, list[Any]]:
    """A picture and its objects as (label, corners); one object in each vertical strip, so none hides another."""
    image = Image.fromarray(rng.integers(90, 140, (height, width, 3), dtype=np.uint8))
    objects = []
    for strip in range(count):
        label = int(rng.integers(1, 4))
        left = width * strip / count
        x1, y1 = left + rng.uniform(0.02, 0.2) * width / count, rng.uniform(0.02, 0.3) * height
        x2, y2 = left + rng.uniform(0.6, 0.95) * width / count, rng.uniform(0.6, 0.95) * height
        corners = outline(label, (round(x1), round(y1), round(x2), round(y2)))
        ImageDraw.Draw(image).polygon(corners, fill=COLORS[label])
        objects.append((label, corners))
    return image, objects


def make_samples(
    images: int = 6,
    seed: int = 0,
    *,
    empty: Sequence[int] = (),
    validation: Sequence[int] = (),
    sizes: Sequence[tuple[int, int]] = ((HEIGHT, WIDTH),),
) -> list[Sample]:
    """Pictures with one or two objects each, those in `empty` with none; the last fifth is for testing.

    Those in `validation` are of that split instead. Heights and widths are those of `sizes` in turn.
    """
    rng = np.random.default_rng(seed)
    samples = []
    for index in range(images):
        height, width = sizes[index % len(sizes)]
        image, objects = draw_objects(rng, height, width, 0 if index in empty else int(rng.integers(1, 3)))
        masks = np.zeros((len(objects), height, width), bool)
        for mask, (_, corners) in zip(masks, objects, strict=True):
            canvas = Image.new("1", (width, height))
            ImageDraw.Draw(canvas).polygon(corners, fill=1)
            mask[:] = np.asarray(canvas)
        samples.append(
            Sample(
                name=f"{index:06d}",
                image=np.asarray(image),
                boxes=np.array([tight_box(mask) for mask in masks], np.float32).reshape(-1, 4),
                labels=np.array([label for label, _ in objects], np.int64),
                masks=Masks.from_pixels(masks),
                crowd=np.zeros(len(objects), bool),
                unlabeled_boxes=no_boxes(),
                unlabeled_labels=no_labels(),
                split="validation" if index in validation else "train" if index < int(0.8 * images) else "test",
            )
        )
    return samples


def tight_box(mask: np.ndarray) -> list[float]:
    """The box around a mask's pixels."""
    ys, xs = np.nonzero(mask)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def make_course(root: Path, images: int = 6, seed: int = 0, *, genuine: bool = True, bool_masks: bool = False) -> None:
    """Writes the course's four files.

    Args:
        root: the folder, made if missing.
        images: how many pictures.
        seed: of their content.
        genuine: arrays pickled as numpy 1 wrote the genuine ones; else as the installed numpy does.
        bool_masks: store masks as bool instead of uint8.
    """
    root.mkdir(parents=True, exist_ok=True)
    samples = make_samples(images, seed)
    masks = np.concatenate([sample.masks.pixels() for sample in samples])
    pictures = np.stack([sample.image.transpose(2, 0, 1) for sample in samples])
    write_h5(root / COURSE_NAMES["images"], pictures)
    write_h5(root / COURSE_NAMES["masks"], masks if bool_masks else masks.astype(np.uint8))
    write_npy(root / COURSE_NAMES["labels"], [sample.labels for sample in samples], genuine=genuine)
    write_npy(root / COURSE_NAMES["boxes"], [sample.boxes for sample in samples], genuine=genuine)


def write_h5(path: Path, data: np.ndarray, key: str = "data", **options: Any) -> None:
    """Writes one gzip dataset, chunked as h5py chooses, as the genuine files are."""
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=data, **({"compression": "gzip", "compression_opts": 1} | options))


def write_npy(path: Path, items: Sequence[Any], *, genuine: bool = True) -> None:
    """Writes an object array; `genuine` with pickle protocol 2 and numpy 1's module names."""
    array = np.empty(len(items), object)
    array[:] = items
    if not genuine:
        np.save(path, array, allow_pickle=True)
        return
    write_raw_npy(path, pickle.dumps(array, protocol=2).replace(b"numpy._core", b"numpy.core"), len(items))


def write_raw_npy(path: Path, program: bytes, length: int) -> None:
    """Writes an object array's header before any bytes."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (length,)})
        file.write(program)


def make_coco(root: Path, images: int = 6, seed: int = 0, *, crowd: bool = True) -> dict[str, Any]:
    """Writes `instances.json` and `images/`, and returns the json's tree, to be broken and written again.

    Sizes vary; categories are dog, car, person and one outside the three classes, `chair`, which every picture has.
    With `crowd` the first picture also holds a crowd region in run lengths.
    """
    (root / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    names = {1: ("car", "vehicle"), 2: ("person", "person"), 3: ("dog", "animal"), 62: ("chair", "furniture")}
    categories = [{"id": key, "name": name, "supercategory": above} for key, (name, above) in names.items()]
    tree: dict[str, Any] = {"images": [], "annotations": [], "categories": categories}
    for index in range(1, images + 1):
        height, width = [(240, 320), (320, 240), (150, 400)][index % 3]
        image, objects = draw_objects(rng, height, width, int(rng.integers(1, 3)))
        name = f"{index:012d}.png"
        image.save(root / "images" / name)
        tree["images"].append({"id": index, "file_name": name, "height": height, "width": width})
        for label, corners in [*objects, (62, outline(1, (2, 2, 9, 9)))]:
            tree["annotations"].append(_annotation(len(tree["annotations"]) + 1, index, label, corners))
    if crowd:
        height, width = tree["images"][0]["height"], tree["images"][0]["width"]
        runs = {"size": [height, width], "counts": [0, 5 * height, height * (width - 5)]}
        region = {"bbox": [0, 0, 5, height], "iscrowd": 1, "segmentation": runs, "area": 5 * height}
        tree["annotations"].append({"id": len(tree["annotations"]) + 1, "image_id": 1, "category_id": 2, **region})
    write_tree(root, tree)
    return tree


def make_own_classes(root: Path, names: Sequence[str], images: int) -> None:
    """Writes a set in COCO's format whose objects are of these categories in turn, without supercategories."""
    tree = make_coco(root, images, crowd=False)
    tree["annotations"] = [entry for entry in tree["annotations"] if entry["category_id"] != 62]
    for number, entry in enumerate(tree["annotations"]):
        entry["category_id"] = 1 + number % len(names)
    tree["categories"] = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    write_tree(root, tree)


def _annotation(number: int, image: int, label: int, corners: list[tuple[float, float]]) -> dict[str, Any]:
    low, high = np.min(corners, 0), np.max(corners, 0)
    box = [*low.tolist(), *(high - low).tolist()]
    polygon = [round(value, 2) for corner in corners for value in corner]
    place = {"id": number, "image_id": image, "category_id": label}
    return place | {"iscrowd": 0, "bbox": box, "area": box[2] * box[3], "segmentation": [polygon]}


def write_tree(root: Path, tree: Any) -> None:
    """Writes an instances json."""
    (root / "instances.json").write_text(json.dumps(tree), encoding="utf-8")


def make_dataset(path: Path, samples: Sequence[Sample]) -> Path:
    """Writes a dataset file."""
    write_dataset(path, samples, {"source": "test", "classes": CLASSES.names})
    return path


def make_prepared(
    folder: Path,
    images: int = 6,
    seed: int = 0,
    prepare: PrepareParams = SMALL,
    *,
    validation: Sequence[int] = (),
    sizes: Sequence[tuple[int, int]] = ((HEIGHT, WIDTH),),
) -> Path:
    """Writes `dataset.h5` and `prepared.h5` (96 x 160 by default) into a folder; returns the latter."""
    samples = make_samples(images, seed, validation=validation, sizes=sizes)
    with DatasetFile(make_dataset(folder / "dataset.h5", samples)) as dataset:
        write_prepared(folder / "prepared.h5", dataset, prepare)
    return folder / "prepared.h5"

"""Broken course files. Each case spoils one thing in a good set of six pictures."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.factories import COURSE_NAMES, make_samples, write_h5, write_npy
from tests.hostile.case import Case, case

IMAGES, MASKS, LABELS, BOXES = (COURSE_NAMES[kind] for kind in ("images", "masks", "labels", "boxes"))
SAMPLES = make_samples(6, seed=3)
COUNTS = [len(sample.labels) for sample in SAMPLES]
TOTAL = sum(COUNTS)


def labels(change: Callable[[list[Any]], Any]) -> Callable[[Path], None]:
    """Writes changed labels; the change may return other ones."""
    return lambda root: write_npy(root / LABELS, _changed([s.labels.copy() for s in SAMPLES], change))


def boxes(change: Callable[[list[Any]], Any]) -> Callable[[Path], None]:
    return lambda root: write_npy(root / BOXES, _changed([s.boxes.copy() for s in SAMPLES], change))


def _changed(items: list[Any], change: Callable[[list[Any]], Any]) -> list[Any]:
    return change(items) or items


def box(*numbers: float) -> Callable[[Path], None]:
    """Replaces the first box of picture 4."""
    return boxes(lambda items: items[4].__setitem__(0, numbers))


def masks(change: Callable[[np.ndarray], Any]) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        stored = np.concatenate([sample.masks.pixels() for sample in SAMPLES]).astype(np.uint8)
        changed = change(stored)
        write_h5(root / MASKS, stored if changed is None else changed)

    return spoil


def write(name: str, shape: tuple[int, ...], dtype: Any, **options: Any) -> Callable[[Path], None]:
    """Replaces an h5 file by zeros of another form."""
    return lambda root: write_h5(root / name, np.zeros(shape, dtype), **options)


def declare(name: str, shape: tuple[int, ...]) -> Callable[[Path], None]:
    """A file that declares a shape and holds nothing."""

    def spoil(root: Path) -> None:
        with h5py.File(root / name, "w") as file:
            file.create_dataset("data", shape, np.uint8, chunks=(1, *shape[1:]))

    return spoil


def cut(name: str, share: float) -> Callable[[Path], None]:
    return lambda root: os.truncate(root / name, int(share * (root / name).stat().st_size))


def elsewhere(root: Path) -> None:
    (root / MASKS).unlink()
    with h5py.File(root / MASKS, "w") as file:
        file["data"] = h5py.ExternalLink(str(root / IMAGES), "data")


def no_objects(root: Path) -> None:
    labels(lambda items: [item[:0] for item in items])(root)
    boxes(lambda items: [item[:0] for item in items])(root)


HUGE = 10**9
PLACES = (0.0, 0.001, 0.01, 0.1, 0.25, 0.4, 0.55, 0.7, 0.9, 0.999)

CASES: dict[str, Case] = {
    **{
        f"no {name}": case(lambda root, name=name: (root / name).unlink(), name, "no such file")
        for name in (IMAGES, MASKS, LABELS, BOXES)
    },
    **{
        f"{name} cut at {place}": case(cut(name, place), name)
        for name in (IMAGES, MASKS, LABELS, BOXES)
        for place in PLACES
    },
    "images are text": case(lambda root: (root / IMAGES).write_text("<html>404"), IMAGES, "readable HDF5"),
    "labels are text": case(lambda root: (root / LABELS).write_text("<html>404"), LABELS, ".npy"),
    "images are a folder": case(lambda root: ((root / IMAGES).unlink(), (root / IMAGES).mkdir()), IMAGES, "a folder"),
    "labels of gigabytes": case(lambda root: os.truncate(root / LABELS, 2**40), LABELS, "at most 268,435,456 bytes"),
    "another key": case(
        write(IMAGES, (6, 3, 300, 400), np.uint8, key="images"), "a dataset 'data', found the entries images"
    ),
    "another file's data": case(elsewhere, MASKS, "a dataset 'data'"),
    "float images": case(
        write(IMAGES, (6, 3, 300, 400), np.float32), IMAGES, "expected uint8 in 'data', found float32"
    ),
    "float masks": case(write(MASKS, (TOTAL, 300, 400), np.float64), MASKS, "bool or uint8", "found float64"),
    "images last": case(write(IMAGES, (6, 300, 400, 3), np.uint8), "(6, 3, 300, 400)", "found (6, 300, 400, 3)"),
    "images of another size": case(write(IMAGES, (6, 3, 400, 300), np.uint8), "(6, 3, 300, 400)", "(6, 3, 400, 300)"),
    "flat images": case(write(IMAGES, (6, 360000), np.uint8), "(6, 3, 300, 400)", "(6, 360000)"),
    "fewer images": case(write(IMAGES, (5, 3, 300, 400), np.uint8), "(6, 3, 300, 400)", "found (5,"),
    "more images": case(write(IMAGES, (7, 3, 300, 400), np.uint8), "(6, 3, 300, 400)", "found (7,"),
    "fewer masks": case(masks(lambda stored: stored[1:]), f"({TOTAL}, 300, 400)", f"found ({TOTAL - 1},"),
    "more masks": case(masks(lambda stored: np.concatenate([stored, stored[:1]])), f"found ({TOTAL + 1},"),
    "terabytes of images": case(declare(IMAGES, (HUGE, 3, 300, 400)), "(6, 3, 300, 400)", str(HUGE)),
    "terabytes of masks": case(declare(MASKS, (HUGE, 300, 400)), f"({TOTAL}, 300, 400)", str(HUGE)),
    "masks of 255": case(masks(lambda stored: stored.__imul__(255)), f"{MASKS}[0]", "masks of 0 and 1", "255"),
    "an empty mask": case(masks(lambda stored: stored[2].fill(0)), f"{MASKS}[2]", "a mask with pixels"),
    "masks in another order": case(masks(lambda stored: stored[::-1]), MASKS, "a mask inside its box", "label order"),
    "fewer labels": case(labels(lambda items: items[:5]), BOXES, "5 entries", "found 6"),
    "more labels": case(labels(lambda items: [*items, items[0]]), BOXES, "7 entries", "found 6"),
    "fewer boxes": case(boxes(lambda items: items[:5]), BOXES, "6 entries", "found 5"),
    "a box too few": case(boxes(lambda items: [items[0][:-1], *items[1:]]), f"{BOXES}[0]", f"({COUNTS[0]}, 4)"),
    "a label too few": case(labels(lambda items: [items[0][:-1], *items[1:]]), f"{BOXES}[0]", f"({COUNTS[0] - 1}, 4)"),
    "no objects": case(no_objects, LABELS, "objects", "none in any image"),
    "objects without end": case(
        labels(lambda items: [np.ones(200_000, np.int64), *items[1:]]), f"{LABELS}[0]", "at most 1000 objects", "200000"
    ),
    **{
        f"label {value}": case(
            labels(lambda items, value=value: items[2].__setitem__(0, value)),
            f"{LABELS}[2]",
            "labels 1 to 3",
            f"found {value}",
        )
        for value in (0, 4, -1)
    },
    "float labels": case(
        labels(lambda items: [item.astype(np.float32) for item in items]), f"{LABELS}[0]", "int64", "float32"
    ),
    "double boxes": case(
        boxes(lambda items: [item.astype(np.float64) for item in items]), f"{BOXES}[0]", "float32", "float64"
    ),
    "inverted box": case(box(50, 50, 20, 90), f"{BOXES}[4]", "x1 < x2", "(50, 50, 20, 90)"),
    "upside down box": case(box(20, 90, 50, 50), f"{BOXES}[4]", "y1 < y2"),
    "empty box": case(box(20, 20, 20, 50), f"{BOXES}[4]", "x1 < x2"),
    "box outside": case(box(20, 20, 402, 250), f"{BOXES}[4]", "inside the picture (0, 0, 400, 300)", "402"),
    "box of NaN": case(box(np.nan, 20, 40, 50), f"{BOXES}[4]", "finite", "nan"),
    "box of infinity": case(box(20, 20, np.inf, 50), f"{BOXES}[4]", "finite", "inf"),
}

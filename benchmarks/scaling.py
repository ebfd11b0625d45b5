"""How time, memory and disk grow with the number of images, up to the course's whole set.

The genuine labels and boxes, with generated pictures and masks, in the course's exact files, at growing N; then the
stages themselves, each in a process of its own, in a workspace made for it. Needs the weights of a finished run.

    python -m benchmarks.scaling --labels folder/of/the/course [--counts 100 400 1600 3265] [--features-up-to 400]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ruamel.yaml import YAML
from tqdm import tqdm

from benchmarks.page import measured_on, table
from src.core import paths
from src.core.files import read_json, write_json, write_text
from src.core.params_file import load_params
from src.core.runtime import environment_info
from src.data.loading import Loader
from src.data.prepared import PreparedFile
from src.detector.roi_cache import open_cached_rois
from src.detector.sampling import RoiRules
from src.sources.course import BOXES, IMAGES, LABELS, MASKS
from src.sources.pickles import read_arrays
from src.structures.sample import HEIGHT, WIDTH

RESULTS = Path("benchmarks/scaling.json")
PAGE = Path("benchmarks/scaling.md")
STAGES = ("ingest", "prepare", "features", "box_head", "detect", "evaluate")  # in the order in which they run
SLOW = STAGES[2:]  # those that run the network, or need its output
COLUMNS = {**{name: (name,) for name in STAGES[:4]}, "detect + evaluate": ("detect", "evaluate")}  # of the tables
FILES = tuple(map(str, (paths.DATASET, paths.PREPARED, paths.FEATURES)))


def make_course(folder: Path, source: Path, count: int) -> None:
    """The course's four files for its first `count` images: genuine labels and boxes, generated pictures and masks."""
    labels = read_arrays(source / LABELS)[:count]
    boxes = read_arrays(source / BOXES)[:count]
    folder.mkdir(parents=True)
    for name, arrays in ((LABELS, labels), (BOXES, boxes)):
        column = np.empty(count, dtype=object)
        for index, array in enumerate(arrays):
            column[index] = array
        np.save(folder / name, column, allow_pickle=True)
    total = sum(len(one) for one in labels)
    options = {"dtype": "uint8", "compression": "gzip", "compression_opts": 4}
    with h5py.File(folder / IMAGES, "w") as images, h5py.File(folder / MASKS, "w") as masks:
        pictures = images.create_dataset("data", (count, 3, HEIGHT, WIDTH), chunks=(1, 3, HEIGHT, WIDTH), **options)
        shapes = masks.create_dataset("data", (total, HEIGHT, WIDTH), chunks=(1, HEIGHT, WIDTH), **options)
        row = 0
        for index in tqdm(range(count), desc=f"files of {count} images", unit="image"):
            draw = np.random.default_rng(index)
            drawn = [ellipse(box) for box in boxes[index]]
            pictures[index] = picture(drawn, draw)
            for mask in drawn:
                shapes[row] = mask
                row += 1


def ellipse(box: np.ndarray) -> np.ndarray:
    """The mask of the ellipse in a box, [300, 400] of 0 and 1."""
    x1, y1, x2, y2 = (float(value) for value in box)
    y, x = np.arange(HEIGHT)[:, None] + 0.5, np.arange(WIDTH) + 0.5
    across = (x - (x1 + x2) / 2) / max((x2 - x1) / 2, 0.5)
    down = (y - (y1 + y2) / 2) / max((y2 - y1) / 2, 0.5)
    return (across**2 + down**2 <= 1).astype(np.uint8)


def picture(masks: Sequence[np.ndarray], draw: np.random.Generator) -> np.ndarray:
    """Colored ellipses on a smooth ground with a camera's noise, [3, 300, 400]."""
    coarse = draw.integers(0, 256, (3, 6, 8)).astype(np.float32)
    values = np.kron(coarse, np.ones((1, HEIGHT // 6, WIDTH // 8), np.float32))
    for mask in masks:
        values = np.where(mask[None] > 0, draw.integers(0, 256, (3, 1, 1)), values)
    return np.clip(values + draw.normal(0, 6, values.shape), 0, 255).astype(np.uint8)


def make_workspace(folder: Path, root: Path) -> None:
    """The project's code, a copy of this run's weights, and params that read the course's files in `root`."""
    here = Path.cwd()
    folder.mkdir(parents=True)
    for name in ("src", "stages", "dvc.yaml"):
        (folder / name).symlink_to(here / name)
    shutil.copytree("models", folder / "models")  # stages write their weights: not into this run's folder
    yaml = YAML()
    content = yaml.load(Path("params.yaml").read_text(encoding="utf-8"))
    content["data"]["source"], content["data"]["root"] = "course", str(root)
    content["features"]["flip"] = False
    content["box_head"]["epochs"] = 1
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(content, file)
    # `evaluate` puts these stages' numbers into the headline; they are not run here.
    write_json(folder / paths.metrics("rpn"), {"balanced_accuracy": None})
    backbone = content["backbone"]
    write_json(folder / paths.metrics("backbone"), {"backbone": backbone["name"], "weights": backbone["weights"]})


# Linux counts the memory of the process that starts another as the other's, so a small one starts the stages.
LAUNCHER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
_, status, usage = os.wait4(subprocess.Popen([sys.executable, "-m", sys.argv[1]]).pid, 0)
measured = {"seconds": time.perf_counter() - start, "peak_gb": usage.ru_maxrss / 2**20}
with open(sys.argv[2], "w") as file:
    json.dump(measured, file)
sys.exit(status != 0)
"""


def run_stage(name: str, folder: Path) -> dict[str, float]:
    """Seconds and peak memory of one stage in its own process."""
    environment = {**os.environ, "DVC_ROOT": str(folder)}
    command = [sys.executable, "-c", LAUNCHER, f"stages.{name}", str(folder / "measured.json")]
    done = subprocess.run(command, cwd=folder, env=environment, check=False)  # noqa: S603 - this project's own stages
    if done.returncode:
        raise SystemExit(f"benchmarks.scaling: stage {name} failed in {folder}")
    return read_json(folder / "measured.json")


def loader_rate(path: Path, images: int = 200) -> float:
    """Images a second that the loader delivers, mirrored or not, without masks, as training reads them."""
    with PreparedFile(path) as prepared:
        rows = prepared.indices("train")[:images]
    start = time.perf_counter()
    delivered = sum(len(batch) for batch in Loader(path, rows, 2, seed=1, flip=True, masks=False).batches(0))
    return delivered / (time.perf_counter() - start)


def head_loader_rate(folder: Path) -> float:
    """Views a second that the heads' loader delivers in the order of training, after an epoch that fills the memory."""
    params = load_params()
    options = params.box_head
    loader, _ = open_cached_rois(
        folder / paths.FEATURES,
        folder / paths.PREPARED,
        rules=RoiRules.from_params(params.rois, options.batch_size_per_image),
        batch_size=options.batch_size,
        mask_rois=0,
        seed=options.seed,
    )
    for _ in loader.batches(0):
        pass
    start = time.perf_counter()
    delivered = sum(len(batch.names) for batch in loader.batches(1))
    return delivered / (time.perf_counter() - start)


def measure(count: int, labels: Path, temporary: Path, *, slow: bool) -> dict[str, Any]:
    """All numbers at one N."""
    root, folder = temporary / f"course-{count}", temporary / f"run-{count}"
    make_course(root, labels, count)
    make_workspace(folder, root)
    entry: dict[str, Any] = {"images": count, "stages": {}}
    for name in STAGES:
        if name not in SLOW or slow:
            entry["stages"][name] = run_stage(name, folder)
    inputs = sum(file.stat().st_size for file in root.iterdir())
    sizes = {name: (folder / name).stat().st_size for name in FILES if (folder / name).exists()}
    entry["bytes"] = {"the course's files": inputs, **sizes}
    entry["loader_images_a_second"] = loader_rate(folder / paths.PREPARED)
    if slow:
        entry["head_loader_views_a_second"] = head_loader_rate(folder)
    shutil.rmtree(root)
    shutil.rmtree(folder)
    return entry


def write_page(results: dict[str, Any]) -> None:
    """`benchmarks/scaling.md` from the numbers."""
    entries = results["counts"]
    files = ("the course's files", *FILES)
    text = """# Scaling

Written by `python -m benchmarks.scaling` from `scaling.json`; do not edit. The course's genuine labels and boxes with
generated pictures and masks, in the course's files; every stage in a process of its own. `detect + evaluate` has the
time of both and the memory of the greater: `detect` runs the network over the test split, `evaluate` measures what it
found.
"""
    if together := [str(e["images"]) for e in entries if "evaluate" in e["stages"] and "detect" not in e["stages"]]:
        text += f"At N = {', '.join(together)} both were still one stage, `evaluate`.\n"
    disk = [
        (*(f"{e['bytes'][name] / 2**20:.0f}" if name in e["bytes"] else "" for name in files), *rates(e))
        for e in entries
    ]
    parts = [
        text,
        measured_on(results["conditions"]),
        "Seconds:\n",
        by_count(entries, COLUMNS, [[cell(seconds(e, name), ".1f") for name in COLUMNS] for e in entries]),
        "Milliseconds for each further image (in the first row, for each image with the stage's start):\n",
        by_count(
            entries, COLUMNS, [[further(entries, place, name) for name in COLUMNS] for place in range(len(entries))]
        ),
        "Peak memory, GiB:\n",
        by_count(entries, COLUMNS, [[cell(peak_gb(e, name), ".2f") for name in COLUMNS] for e in entries]),
        "Files, MiB, and what the loaders deliver: pictures a second, and cached views a second of the heads' one:\n",
        by_count(entries, (*files, "pictures a second", "views a second"), disk),
    ]
    write_text(PAGE, "\n".join(parts).rstrip() + "\n")


def by_count(entries: Sequence[dict[str, Any]], head: Iterable[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a row for each N."""
    return table(("N", *head), [(str(e["images"]), *row) for e, row in zip(entries, rows, strict=True)])


def measured(entry: dict[str, Any], column: str) -> list[dict[str, float]]:
    """What was measured of the stages of a column; nothing where they were not run."""
    return [entry["stages"][stage] for stage in COLUMNS[column] if stage in entry["stages"]]


def seconds(entry: dict[str, Any], column: str) -> float | None:
    """Of all stages of a column together."""
    return sum(stage["seconds"] for stage in measured(entry, column)) or None


def peak_gb(entry: dict[str, Any], column: str) -> float | None:
    """Of the stage of a column that takes most."""
    return max((stage["peak_gb"] for stage in measured(entry, column)), default=None)


def cell(value: float | None, form: str) -> str:
    """A number, or nothing."""
    return "" if value is None else format(value, form)


def further(entries: Sequence[dict[str, Any]], place: int, column: str) -> str:
    """What each image has cost that is more than in the last row before in which the stages ran."""
    spent = seconds(entries[place], column)
    if spent is None:
        return ""
    images = entries[place]["images"]
    for entry in reversed(entries[:place]):
        before = seconds(entry, column)
        if before is not None:
            return f"{1000 * (spent - before) / (images - entry['images']):.1f}"
    return f"{1000 * spent / images:.1f}"


def rates(entry: dict[str, Any]) -> tuple[str, ...]:
    """What the loaders deliver a second; nothing where a loader was not run."""
    names = ("loader_images_a_second", "head_loader_views_a_second")
    return tuple(f"{entry[name]:.0f}" if name in entry else "" for name in names)


def main() -> None:
    """Measures, and rewrites the entries of the given counts, each as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--labels", type=Path, required=True, help="folder with the course's two .npy files")
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 400, 1600, 3265])
    parser.add_argument("--features-up-to", type=int, default=400, help="largest N for which the network runs")
    options = parser.parse_args()
    results = read_json(RESULTS) if RESULTS.exists() else {"counts": []}
    entries = {entry["images"]: entry for entry in results["counts"]}
    with tempfile.TemporaryDirectory(prefix="scaling-") as temporary:
        for count in options.counts:
            slow = count <= options.features_up_to
            entries[count] = measure(count, options.labels.resolve(), Path(temporary), slow=slow)
            rows = [entries[number] for number in sorted(entries)]
            results = {"counts": rows, "conditions": environment_info(load_params().runtime)}
            write_json(RESULTS, results)
            write_page(results)


if __name__ == "__main__":
    main()

"""Stage `ingest`: any source's pictures into one dataset file, with counts and a sheet of samples (section 2)."""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("ingest: stages run from the project's root as: python -m stages.ingest")

from collections import Counter
from typing import Any

import numpy as np
from jaxtyping import Int64
from tqdm import tqdm

from src.core import paths
from src.core.files import write_csv, write_json
from src.core.params import Params
from src.core.stage import run
from src.data.dataset import DatasetFile, write_dataset
from src.data.selection import rows_with_objects
from src.figures.data import draw_samples
from src.figures.view import drawn_sample
from src.sources.left_out import COLUMNS, rows
from src.sources.opening import findings_of, open_source
from src.structures.sample import SPLITS, TRAIN, no_labels

SHEET_IMAGES = 12


def main(params: Params) -> None:
    """Reads the source, writes the dataset file, what is not in it, its counts and the sheet."""
    source = open_source(params.data)
    bar = tqdm(source, total=len(source), desc=f"ingest {params.data.source}", unit="image", disable=None)
    write_dataset(paths.DATASET, iter(bar), {"source": params.data.source, "classes": source.classes.names})
    findings = findings_of(source)
    write_csv(paths.LEFT_OUT, COLUMNS, rows(findings.left_out if findings else ()))
    with DatasetFile(paths.DATASET) as dataset:
        facts = describe(dataset)
        shown = rows_with_objects(dataset, TRAIN, SHEET_IMAGES)
        title = f"{facts['train_images']} training images ({params.data.source}): the first {len(shown)} with objects"
        samples = [drawn_sample(dataset[row]) for row in shown]
        draw_samples(paths.plots("ingest") / "samples.png", samples, dataset.classes, title)
    write_json(paths.metrics("ingest"), facts | (findings.describe() if findings else {}))


def describe(dataset: DatasetFile) -> dict[str, Any]:
    """Counts of images and objects, by class and split; crowd regions are counted apart."""
    rows = {split: dataset.indices(split) for split in SPLITS}
    labels = {split: annotated_labels(dataset, rows[split]) for split in SPLITS}
    counts = Counter(dataset.object_count(row) for row in range(len(dataset)))
    return {
        "source": dataset.attributes["source"],
        "images": len(dataset),
        "objects": sum(len(part) for part in labels.values()),
        **{f"{split}_images": len(rows[split]) for split in SPLITS},
        "split": {
            name: {split: int((part == label).sum()) for split, part in labels.items()}
            for name, label in dataset.classes.items()
        },
        "objects_per_image": {str(number): counts[number] for number in sorted(counts)},
        "unannotated_objects": sum(len(dataset.unlabeled_labels(row)) for row in range(len(dataset))),
        "crowd_objects": sum(int(dataset.crowd(row).sum()) for row in range(len(dataset))),
    }


def annotated_labels(dataset: DatasetFile, rows: list[int]) -> Int64[np.ndarray, " n"]:
    """The classes of all objects in some pictures, crowd regions left out."""
    return np.concatenate([no_labels(), *(dataset.labels(row)[~dataset.crowd(row)] for row in rows)])


if __name__ == "__main__":
    run("ingest", main)

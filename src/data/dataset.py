"""The dataset file that `ingest` writes: every source's pictures in one form, 300 x 400 (assignment, section 2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from src.data.scene_file import SceneFile, write_scenes
from src.structures.sample import HEIGHT, WIDTH, Sample


def write_dataset(path: Path, samples: Iterable[Sample], meta: dict[str, Any]) -> None:
    """Writes samples as they come; memory does not grow with the pictures.

    Args:
        path: the file to be made or replaced, atomically.
        samples: the pictures; a `Source`, for one.
        meta: facts about the set, JSON; `classes`, the names of the classes in label order, among them.
    """
    write_scenes(path, samples, (HEIGHT, WIDTH), meta)


class DatasetFile(SceneFile):
    """Reads a dataset file: `len`, `[i]`, iteration, and the columns of `SceneFile`.

    Example:
        with DatasetFile(Path("data/dataset.h5")) as dataset:
            sample = dataset[dataset.indices("test")[0]]
    """

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        index %= len(self)
        return Sample(
            name=self.names[index],
            image=self.image(index),
            boxes=self.boxes(index),
            labels=self.labels(index),
            masks=self.masks(index),
            crowd=self.crowd(index),
            unlabeled_boxes=self.unlabeled_boxes(index),
            unlabeled_labels=self.unlabeled_labels(index),
            split=self.split(index),
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

"""COCO's photos: an instances json with its image folder, letterboxed to the course's 300 x 400.

As detectron2 does, pictures without an object of the three classes are left out, and so are those that show crowd
regions only: they would not be negatives, since classes outside the three are not background a person would expect.
Objects that vanish when the picture is made smaller are left out too. A picture or object that is wrong is mended where
its meaning is plain, else left out; `findings` has every one of them. `data.strict` refuses the set for it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from src.core.data_params import DataParams
from src.core.errors import invalid
from src.sources.coco.annotations import Picture
from src.sources.coco.decoding import read_sample
from src.sources.coco.instances import Instances, read_instances
from src.sources.coco.layouts import Part, find_parts
from src.sources.coco.listing import ListedPicture, list_pictures
from src.sources.coco.picture_files import image_folder
from src.sources.left_out import IMAGES, NO_OBJECT, Findings, LeftOut, merge
from src.sources.splits import limited, root_folder, split_names
from src.structures.sample import TEST, TRAIN, Sample

logger = logging.getLogger(__name__)


def open_coco(params: DataParams) -> CocoSource:
    """Opens the set in `data.root`.

    Raises:
        InputError: json or image folder are missing, or the json is wrong.
    """
    root = root_folder(params)
    return CocoSource(root, find_parts(root), params)


class CocoSource:
    """The pictures in the order of their ids, one in memory at a time.

    Its length is that of the list: a picture that turns out to be unreadable is not yielded.
    """

    def __init__(self, root: Path, parts: Sequence[Part], params: DataParams) -> None:
        self.root, self.params = root, params
        (part,) = parts
        read = _read(part, params)
        usable = [picture for picture in read.pictures if picture.has_objects]
        folder = image_folder(part.images, root, params.coco.store, strict=params.strict)
        count = limited(len(usable), params)
        listed, found = list_pictures(part.instances, folder, usable, count, strict=params.strict)
        self.pictures: list[tuple[Path, ListedPicture]] = [(part.instances, picture) for picture in listed]
        self._json, self._listed, self._decoded = read.findings, found, list[Findings]()
        self._late.check_share(root, params.largest_left_out)
        self.splits = split_names(len(self.pictures), params)

    @property
    def findings(self) -> Findings:
        """What was mended and left out so far: all of it once every picture was asked for."""
        everything = merge([self._json, self._late])
        return replace(everything, images=self._json.images, objects=self._json.objects)

    @property
    def _late(self) -> Findings:
        """The part of it that the json alone does not tell."""
        return merge([self._listed, *self._decoded])

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[Sample]:
        self._decoded = []
        counts: Counter[str] = Counter()
        for (instances, picture), split in zip(self.pictures, self.splits, strict=True):
            sample, findings = read_sample(picture, split, instances, strict=self.params.strict)
            self._decoded.append(findings)
            if sample is not None:
                counts.update({split: 1, "objects": int((~sample.crowd).sum())})
                yield sample
        self._finish(counts)

    def _finish(self, counts: Counter[str]) -> None:
        """Refuses what turned out to be too little; says in the log what was mended and left out."""
        whole = self._late if self.params.limit else self.findings  # with a limit, of what was looked at
        whole.check_share(self.root, self.params.largest_left_out)
        if not all(counts[key] for key in (TRAIN, TEST, "objects")):
            found = f"{counts['objects']} objects, {counts[TRAIN]} and {counts[TEST]} images after {self._reasons()}"
            raise invalid(self.root, "objects, and images to train on and to test on", found)
        for line in self.findings.lines():
            logger.warning("%s: %s", self.root, line)

    def _reasons(self) -> str:
        return "; ".join(self.findings.lines()) or "nothing left out"


def _read(part: Part, params: DataParams) -> Instances:
    """A part's json, with the pictures that have no object among its findings.

    Raises:
        InputError: too much of it is wrong.
    """
    read = read_instances(part.instances, params)
    read.findings.check_share(part.instances, params.largest_left_out)
    empty = [picture for picture in read.pictures if not picture.has_objects]
    lost = tuple(_without_objects(part.instances, picture) for picture in empty if picture.lost)
    passed = {"images without an object of the classes": len(empty) - len(lost)}
    here = Findings(left_out=lost, passed_over={text: number for text, number in passed.items() if number})
    return replace(read, findings=merge([read.findings, here]))


def _without_objects(instances: Path, picture: Picture) -> LeftOut:
    detail = f"expected an object that can be used, found {len(picture.lost)} left out"
    return LeftOut(IMAGES, str(instances), picture.entry, NO_OBJECT, detail, fault=False)

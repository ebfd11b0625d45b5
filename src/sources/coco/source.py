"""Sets in COCO's format: instances jsons with their image folders, each picture in its own size.

As detectron2 does, pictures without an object of the set's classes are left out, and so are those that show crowd
regions only: they would not be negatives, since categories in no class are not background a person would expect.
Where they are, `data.keep_empty` keeps them.
A picture or object that is wrong is mended where its meaning is plain, else left out; `findings` has every one of them.
`data.strict` refuses the set for it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from src.core.data_params import DataParams
from src.core.errors import invalid
from src.sources.coco.annotations import Picture
from src.sources.coco.categories import ClassRule
from src.sources.coco.decoding import read_sample
from src.sources.coco.instances import Instances, read_instances
from src.sources.coco.layouts import Layout, Part, find_layout
from src.sources.coco.listing import ListedPicture, list_pictures
from src.sources.coco.picture_files import image_folder
from src.sources.left_out import IMAGES, NO_OBJECT, Findings, LeftOut, merge
from src.sources.splits import hold_out, limits, root_folder, split_names
from src.structures.sample import TEST, TRAIN, VALIDATION, Sample

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitPicture:
    """A picture of one part of the set, with the split that it is in."""

    part: Part
    picture: ListedPicture
    split: str


def open_coco(params: DataParams) -> CocoSource:
    """Opens the set in `data.root`.

    Raises:
        InputError: json or image folder are missing, or the json is wrong.
    """
    root = root_folder(params)
    return CocoSource(root, find_layout(root, params.coco), params)


class CocoSource:
    """The pictures in the order of their ids, part by part, one in memory at a time.

    Its length is that of the list: a picture that turns out to be unreadable is not yielded.
    """

    def __init__(self, root: Path, layout: Layout, params: DataParams) -> None:
        self.root, self.layout, self.params = root, layout, params
        parts = layout.parts
        read = _read_all(root, parts, params)
        self.classes = read[-1].classes
        usable = [[picture for picture in one.pictures if _is_usable(picture, params)] for one in read]
        folders = [image_folder(part.images, root, params.coco.store, strict=params.strict) for part in parts]
        listed = [
            list_pictures(part.instances, folder, pictures, limit, strict=params.strict)
            for part, folder, pictures, limit in zip(
                parts, folders, usable, limits(list(map(len, usable)), params), strict=True
            )
        ]
        self._json, self._listed = (merge([one.findings for one in read]), merge([found for _, found in listed]))
        self._decoded: list[Findings] = []
        self._late.check_share(root, params.largest_left_out)
        self.pictures = _split(parts, [pictures for pictures, _ in listed], params)

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
        for item in self.pictures:
            sample, findings = read_sample(item.picture, item.split, item.part.instances, strict=self.params.strict)
            self._decoded.append(findings)
            if sample is not None:
                counts.update({item.split: 1, "objects": int((~sample.crowd).sum())})
                yield sample
        self._finish(counts)

    def check_share(self, largest: float) -> None:
        """Refuses the set if too much of what was looked at turned out wrong.

        Raises:
            InputError: with the counts by reason.
        """
        whole = self._late if self.params.limit else self.findings
        whole.check_share(self.root, largest)

    def _finish(self, counts: Counter[str]) -> None:
        """Refuses what turned out to be too little; says in the log what was mended and left out."""
        self.check_share(self.params.largest_left_out)
        if not all(counts[key] for key in (TRAIN, TEST, "objects")):
            found = f"{counts['objects']} objects, {counts[TRAIN]} and {counts[TEST]} images after {self._reasons()}"
            raise invalid(self.root, "objects, and images to train on and to test on", found)
        for line in self.findings.lines():
            logger.warning("%s: %s", self.root, line)

    def _reasons(self) -> str:
        return "; ".join(self.findings.lines()) or "nothing left out"


def _split(parts: Sequence[Part], listed: Sequence[list[ListedPicture]], params: DataParams) -> list[SplitPicture]:
    """All pictures with their splits: the set's own where it has one, else drawn.

    A validation part is drawn from the training pictures where the set has none. Names get their part's in front
    where there are several, since each part counts from 1.
    """
    pairs = [(part, picture) for part, pictures in zip(parts, listed, strict=True) for picture in pictures]
    if len(parts) == 1:
        splits = split_names(len(pairs), params)
    else:
        splits = [part.split or TRAIN for part, _ in pairs]
        if VALIDATION not in splits:
            splits = hold_out(splits, params)
    return [
        SplitPicture(part, _named(picture, part), split) for (part, picture), split in zip(pairs, splits, strict=True)
    ]


def _named(picture: ListedPicture, part: Part) -> ListedPicture:
    return replace(picture, name=f"{part.name}/{picture.name}") if part.name else picture


def _read_all(root: Path, parts: Sequence[Part], params: DataParams) -> list[Instances]:
    """The parts' jsons; the last one knows the classes of all.

    Raises:
        InputError: too much of one is wrong, or the classes ask for a category that none has.
    """
    read: list[Instances] = []
    for part in parts:
        read.append(_read(part, params, read[-1].classes.names if read else ()))
    found = sorted(frozenset().union(*(one.categories for one in read)))
    ClassRule(params.coco.classes).check_members(found, parts[0].instances if len(parts) == 1 else root)
    return read


def _read(part: Part, params: DataParams, earlier: Sequence[str]) -> Instances:
    """A part's json, with the pictures that have no object among its findings.

    Raises:
        InputError: too much of it is wrong.
    """
    read = read_instances(part.instances, params, earlier)
    read.findings.check_share(part.instances, params.largest_left_out)
    empty = [picture for picture in read.pictures if not _is_usable(picture, params)]
    lost = tuple(_without_objects(part.instances, picture) for picture in empty if picture.lost)
    passed = {"images without an object of the classes": len(empty) - len(lost)}
    here = Findings(left_out=lost, passed_over={text: number for text, number in passed.items() if number})
    return replace(read, findings=merge([read.findings, here]))


def _is_usable(picture: Picture, params: DataParams) -> bool:
    """Whether a picture has objects, or may be without: not one whose objects are left out, which it still shows."""
    return picture.has_objects or (params.keep_empty and not picture.lost)


def _without_objects(instances: Path, picture: Picture) -> LeftOut:
    detail = f"expected an object that can be used, found {len(picture.lost)} left out"
    return LeftOut(IMAGES, str(instances), picture.entry, NO_OBJECT, detail, fault=False)

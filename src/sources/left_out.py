"""What of a set was mended and what was left out, entry by entry with its reason, and how much is too much.

Readers build these records and hand them on; `ingest` writes them to `data/left_out.csv` and counts them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from src.core.errors import invalid, one_line

IMAGES: Final = "images"
OBJECTS: Final = "objects"
COLUMNS: Final = ("file", "entry", "reason", "detail")

# Reasons: a few words each, the same for every entry of the kind, so that they can be counted.
NO_FILE: Final = "no such file"
FORBIDDEN_LINK: Final = "a link out of the set"  # refuses the set, whatever else is forgiven
UNREADABLE: Final = "an unreadable picture"
OTHER_SIZE: Final = "a picture of another size"
TOO_MANY: Final = "too many objects in a picture"
NO_OBJECT: Final = "no usable object"
MALFORMED: Final = "a malformed entry"
REPEATED: Final = "a repeated entry"
UNKNOWN_ID: Final = "the id of nothing in the file"
NO_MASK: Final = "no mask"
BAD_MASK: Final = "a malformed mask"
MASK_ELSEWHERE: Final = "a mask outside its box"
NO_AREA: Final = "a box or mask without area"
OUTSIDE: Final = "a box outside its picture"


class EntryError(ValueError):
    """An entry that cannot be used: the reason, what was expected, and what was found in its place."""

    def __init__(self, reason: str, expected: str, found: object) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.reason, self.expected, self.found = reason, expected, found


@dataclass(frozen=True)
class LeftOut:
    """One entry that is not in the set.

    Attributes:
        kind: `IMAGES` or `OBJECTS`.
        file: the json, or the picture.
        entry: the place in the json, e.g. `annotations[4]`.
        reason: one of those above.
        detail: what was expected and what was found.
        fault: whether it counts as wrong; what follows from another fault, or is only too small, does not.
    """

    kind: str
    file: str
    entry: str
    reason: str
    detail: str
    fault: bool = True

    @property
    def row(self) -> tuple[str, str, str, str]:
        """A row of `COLUMNS`, each cell one printable line."""
        return one_line(self.file), one_line(self.entry), self.reason, one_line(self.detail)


@dataclass(frozen=True)
class Findings:
    """What was met while a set was read, or a part of it.

    Attributes:
        images: entries of images that were looked at.
        objects: entries of objects that were looked at.
        left_out: what is not in the set, in the order in which it was met.
        mended: how many entries were read in another form than the format asks for, by that form.
        passed_over: how many entries are rightly there and not for this purpose, by what they are.
    """

    images: int = 0
    objects: int = 0
    left_out: tuple[LeftOut, ...] = ()
    mended: Mapping[str, int] = field(default_factory=dict)
    passed_over: Mapping[str, int] = field(default_factory=dict)

    def reasons(self, kind: str, *, faults: bool = False) -> dict[str, int]:
        """How many entries of a kind were left out for each reason, the most frequent first."""
        entries = (entry for entry in self.left_out if entry.kind == kind and (entry.fault or not faults))
        return dict(Counter(entry.reason for entry in entries).most_common())

    def describe(self) -> dict[str, dict[str, int]]:
        """All counts, for `metrics/ingest.json`."""
        return {
            "left_out_images": self.reasons(IMAGES),
            "left_out_objects": self.reasons(OBJECTS),
            "mended": dict(self.mended),
            "passed_over": dict(self.passed_over),
        }

    def lines(self) -> list[str]:
        """The same in words, a line for each count that is not empty."""
        counts = {
            f"mended {_total(self.mended)} entries": self.mended,
            f"left out {_total(self.reasons(IMAGES))} of {self.images} images": self.reasons(IMAGES),
            f"left out {_total(self.reasons(OBJECTS))} of {self.objects} objects": self.reasons(OBJECTS),
            "passed over": self.passed_over,
        }
        return [f"{text}: {in_words(numbers)}" for text, numbers in counts.items() if numbers]

    def check_share(self, where: Path, largest: float) -> None:
        """Refuses a set of which too much is wrong; one image and one object are always forgiven, unless at 0.

        Args:
            where: the file or folder named in the complaint.
            largest: `data.largest_left_out`, from 0 to 1.

        Raises:
            InputError: with the counts by reason and the first entry.
        """
        for kind, total in ((IMAGES, self.images), (OBJECTS, self.objects)):
            faults = [entry for entry in self.left_out if entry.kind == kind and entry.fault]
            if len(faults) > (max(1.0, largest * total) if largest else 0):
                first = faults[0]
                found = (
                    f"{len(faults)} of {total} to be left out: {in_words(self.reasons(kind, faults=True))}; "
                    f"the first {first.entry}: {first.detail}"
                )
                expected = f"at most {100 * largest:g} % of its {kind} wrong (data.largest_left_out)"
                raise invalid(where, expected, found)


def merge(parts: Sequence[Findings]) -> Findings:
    """What was met in all of some parts."""
    return Findings(
        sum(part.images for part in parts),
        sum(part.objects for part in parts),
        tuple(entry for part in parts for entry in part.left_out),
        _added(part.mended for part in parts),
        _added(part.passed_over for part in parts),
    )


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    return dict(total)


def in_words(counts: Mapping[str, int], most: int = 8) -> str:
    """Counts in a line, e.g. `no mask 3, a malformed entry 1`; the most frequent first."""
    parts = [f"{one_line(name)} {number}" for name, number in Counter(counts).most_common(most)]
    return ", ".join(parts) + (f" and {len(counts) - most} more" if len(counts) > most else "")


def rows(left_out: Iterable[LeftOut]) -> list[tuple[str, str, str, str]]:
    """The table of `data/left_out.csv`."""
    return [entry.row for entry in left_out]


def _total(counts: Mapping[str, int]) -> int:
    return sum(counts.values())

"""Numbers in words: one way to write a share, a count, a change. None, an undefined number, is written as such.

A number of a metrics file keeps its origin in the text (`src.reporting.origin`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from src.reporting.origin import fill, respelled, written

UNDEFINED: Final = "undefined"
ABSENT: Final = "n/a"  # of what there is nothing to measure on
MINUS: Final = "\N{MINUS SIGN}"
TIMES: Final = "\N{MULTIPLICATION SIGN}"
THIN: Final = "\N{NARROW NO-BREAK SPACE}"


def percent(value: float | None) -> str:
    """A fraction as a percentage with one digit: 0.1234 is `12.3%`."""
    return UNDEFINED if value is None else written(f"{100 * value:.1f}%", value)


def score(value: float | None, digits: int = 3) -> str:
    """A number with fixed digits; by default an AP or IoU, `0.742`."""
    return UNDEFINED if value is None else written(f"{value:.{digits}f}".replace("-", MINUS), value)


def count(value: float | None) -> str:
    """A whole number with its thousands apart: `2 612`."""
    return UNDEFINED if value is None else written(f"{round(value):,}".replace(",", THIN).replace("-", MINUS), value)


def plural(value: int, noun: str, nouns: str = "") -> str:
    """`1 object`, `2 objects`; `nouns` where an s will not do."""
    return fill("{} {}", count(value), noun if value == 1 else nouns or noun + "s")


def small(value: float | None) -> str:
    """A tiny number as a power of ten: 3.2e-06 is `3.2e-6` with a true minus; zero is `0`."""
    if value is None or value == 0:
        return UNDEFINED if value is None else written("0", value)
    digits, power = f"{value:.1e}".split("e")
    return written(f"{digits}e{int(power)}".replace("-", MINUS), value)


def size(*sides: float) -> str:
    """Sides rounded to whole numbers, with multiplication signs between them."""
    return fill(f" {TIMES} ".join("{}" for _ in sides), *(written(f"{side:.0f}", side) for side in sides))


def duration(seconds: float) -> str:
    """`42 s`, `3.5 min` or `2.1 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def byte_size(size: float) -> str:
    """Bytes as people say them, by powers of 1000: `268 MB`, `1.4 GB`, `43 B`."""
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def few(items: Sequence[str], most: int = 6) -> str:
    """A listing of the first ones, with the number of the others where there are more than `most`."""
    return listing(items if len(items) <= most else [*items[: most - 1], f"{count(len(items) - most + 1)} more"])


def listing(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    gaps = ["{}"] * len(items)
    return fill(" and ".join([", ".join(gaps[:-1]), gaps[-1]] if len(gaps) > 1 else gaps), *items)


def sentence(text: str) -> str:
    """The text with a capital letter at its beginning; the others stay."""
    return respelled(text, text[:1].upper() + text[1:])


def change(before: float | None, after: float | None, style: str = "percent") -> str:
    """`rose from 12.0% to 87.0%`, `fell from ...`, or `stayed at 12.0%` where the digits shown are the same.

    Args:
        before: the first value.
        after: the second.
        style: `percent` for fractions, `score` for numbers with three digits.
    """
    write = percent if style == "percent" else score
    if before is None or after is None:
        return fill("went from {} to {}", write(before), write(after))
    if write(before) == write(after):
        return fill("stayed at {}", write(after))
    return fill("{} from {} to {}", "rose" if after > before else "fell", write(before), write(after))


def is_above(value: float | None, limit: float) -> bool:
    """Whether a number is known and above `limit`."""
    return value is not None and value > limit


def signed(value: float | None, digits: int = 3) -> str:
    """A difference with its sign and fixed digits: `+0.012` or, with a true minus, `-0.012`."""
    return UNDEFINED if value is None else written(f"{value:+.{digits}f}".replace("-", MINUS), value)


def metric_name(metric: str) -> str:
    """A metric's name for people: `classifier.macro_recall` is classifier macro recall, `box_ap50` is box AP50."""
    words = metric.replace(".", " ").replace("_", " ").split()
    special = {"iou": "IoU", "rpn": "RPN"}
    return " ".join(word.upper() if word.startswith("ap") else special.get(word, word) for word in words)

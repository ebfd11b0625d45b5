"""The page that compares two runs, in the report's style: one file, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.core.files import write_text
from src.evaluation.funnel import Funnel
from src.evaluation.run_comparison import Difference
from src.reporting.answers.answer import Picture, Table
from src.reporting.formatting import count, listing, metric_name, plural, score, signed
from src.reporting.page import environment


@dataclass(frozen=True)
class Compared:
    """What the page says of two runs.

    Attributes:
        names: of the runs.
        settings: by key, both runs' values where they differ.
        images: that both were measured on.
        left_out: test images that only one of them has.
        differences: with their intervals.
        headlines: `metrics/summary.json` of both.
        funnels: what became of the objects in both.
        fixed: pictures of objects that the second run alone finds.
        broken: the same of the first run.
        counts: how many were fixed, and how many broken, the pictures or not.
        curves: charts of the trainings whose losses differ.
    """

    names: tuple[str, str]
    settings: Mapping[str, tuple[Any, Any]]
    images: int
    left_out: int
    differences: Sequence[Difference]
    headlines: tuple[Mapping[str, Any], Mapping[str, Any]]
    funnels: tuple[Funnel, Funnel]
    fixed: Sequence[Picture]
    broken: Sequence[Picture]
    counts: tuple[int, int]
    curves: Sequence[Picture]


def build_comparison(compared: Compared, funnel: Picture, path: Path) -> None:
    """Writes the page.

    Args:
        compared: the two runs.
        funnel: the chart of lost objects.
        path: HTML file to write.
    """
    template = environment().get_template("compare.html.j2")
    words = {"verdict": verdict(compared), "images": images_in_words(compared)}
    tables = {
        "settings": settings_table(compared),
        "differences": differences_table(compared),
        "headlines": headlines_table(compared),
        "funnel": funnel_table(compared),
    }
    write_text(path, template.render(compared=compared, words=words, tables=tables, funnel=funnel))


def verdict(compared: Compared) -> str:
    """Which differences are larger than another draw of test images would make them, and what was fixed and broken."""
    first, second = compared.names
    clear = [f"{one.name} by {signed(one.difference)}" for one in compared.differences if one.is_clear]
    fixed, broken = compared.counts
    changed = f"{second} finds {plural(fixed, 'object')} that {first} misses, and misses {count(broken)} that it finds."
    if not clear:
        return f"No difference between {first} and {second} is clear of the test images' luck. {changed}"
    return f"{second} differs from {first} beyond the test images' luck in {listing(clear)}. {changed}"


def images_in_words(compared: Compared) -> str:
    """What both were measured on, and what the intervals leave out."""
    text = (
        f"Both were measured on the same {plural(compared.images, 'test image')}. Intervals hold 95 % of the "
        "differences over draws of these images, the same draws for both; how far another seed of the training would "
        "move a number they do not say."
    )
    if not compared.left_out:
        return text
    return (
        f"{text} Left out: {plural(compared.left_out, 'test image')} that one of them lacks, or has other objects in."
    )


def settings_table(compared: Compared) -> Table:
    """The settings that differ."""
    rows = [[key, str(first), str(second)] for key, (first, second) in compared.settings.items()]
    return Table(("setting", *compared.names), rows, "Settings that differ; '' is one that the run does not have.")


def differences_table(compared: Compared) -> Table:
    """The numbers with intervals of their differences."""
    rows = []
    for one in compared.differences:
        interval = "" if one.low is None else f"{signed(one.low)} to {signed(one.high)}"
        rows.append([one.name, score(one.first), score(one.second), signed(one.difference), interval])
    head = ("number", *compared.names, "difference", "95 % of the draws")
    return Table(head, rows, "Numbers on the test images that both runs have.")


def headlines_table(compared: Compared) -> Table:
    """The headline numbers as each run wrote them, on its own test images."""
    first, second = compared.headlines
    keys = [key for key in {**first, **second} if first.get(key) is not None or second.get(key) is not None]
    rows = []
    for key in keys:
        one, other = first.get(key), second.get(key)
        difference = None if one is None or other is None else other - one
        rows.append([metric_name(key), score(one), score(other), signed(difference)])
    return Table(("number", *compared.names, "difference"), rows, "The headline as each run wrote it.")


def funnel_table(compared: Compared) -> Table:
    """Objects lost at each step in both runs."""
    first, second = compared.funnels
    pairs = zip(first.rows(), second.rows(), strict=True)
    rows = [[str(one["step"]), count(int(one["lost"])), count(int(other["lost"]))] for one, other in pairs]
    rows.append(["found", count(first.found), count(second.found)])
    return Table(("step", *compared.names), rows, "Objects by the step that lost them.")

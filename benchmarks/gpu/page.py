"""`gpu.md`: what gpu.json has, as tables that a person can read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.sections import SECTIONS
from benchmarks.page import case_rows, description, in_words, table, time_of
from src.core.files import write_text

HEAD = """# On a GPU

Written by `python -m benchmarks.gpu` from `gpu.json`; do not edit. Times are medians, taken between two events of the
device, of implementations that run in turns; a ratio is taken within each round, with its quartiles in brackets. A
first round warms up and does not count. An image's time stands where work is done on images, else a call's. Beside it
is the least that it would take if its bytes had only to be moved, or its operations only to be multiplied, at the
card's measured limits. Parity is checked in whole float32, without TF32. Numbers of another card do not compare.
"""
NO_MEASUREMENT = "Small sizes on the processor: this tests the script, its times measure nothing.\n"
RATIOS = ("work", "ours", "theirs", "ours takes", "theirs takes", "times faster")
FACTS = ("work", "implementation", "takes", "a second", "bytes alone", "operations alone", "peak memory")
PARTIAL = {"running": "Not finished: the script was stopped here, or is still at it.\n"}

Record = Mapping[str, Any]


def write_gpu_page(results: Record, path: Path) -> None:
    """Writes the page from the content of gpu.json, which may be of a run in progress."""
    machine = results["machine"]
    parts = [HEAD, f"Measured on: {in_words(machine)}.\n"]
    if results["small"]:
        parts.append(NO_MEASUREMENT)
    limits = {entry["limit"]: entry["a_second"] for entry in entries_of(results, "limits")}
    for section in SECTIONS:
        record = results["sections"].get(section.name)
        if record:
            parts += [f"## {section.title}\n", state_of(record), *TABLES[section.name](record["entries"], limits)]
    write_text(path, "\n".join(part for part in parts if part).rstrip() + "\n")


def entries_of(results: Record, section: str) -> Sequence[Record]:
    """What a section found so far."""
    return results["sections"].get(section, {}).get("entries", ())


def state_of(record: Record) -> str:
    """A line where a section did not run to its end."""
    if record["state"] in ("failed", "skipped"):
        return f"{str(record['state']).capitalize()}: {record['line']}.\n"
    return PARTIAL.get(record["state"], "")


def parity_tables(entries: Sequence[Record], _limits: Record) -> list[str]:
    """A row per check, and how many passed."""
    rows = [
        (
            entry["operator"],
            entry["precision"],
            entry["against"],
            entry.get("error") or ("none" if entry["difference"] is None else f"{entry['difference']:.1e}"),
            allowed(**entry["allowed"]),
            "yes" if entry["alike"] else "**NO**",
        )
        for entry in entries
    ]
    alike = sum(entry["alike"] for entry in entries)
    head = ("operator", "precision", "against", "largest difference", "allowed", "alike")
    return [f"{alike} of {len(entries)} checks passed.\n", table(head, rows)] if entries else []


def allowed(absolute: float, relative: float) -> str:
    """A tolerance in words."""
    parts = [f"{absolute:.0e}"] if absolute or not relative else []
    return " + ".join([*parts, *([f"{100 * relative:.2g} %"] if relative else [])])


def limit_tables(entries: Sequence[Record], _limits: Record) -> list[str]:
    """A line per limit, the best of several tries."""
    units = {"bytes": "GB a second read and written"}
    return [
        "".join(
            f"* {entry['a_second'] / 1e9:,.0f} {units.get(entry['limit'], 'GFLOP a second in ' + entry['limit'])}, "
            f"{entry['how']}\n"
            for entry in entries
        )
    ]


def case_tables(entries: Sequence[Record], limits: Record) -> list[str]:
    """Times and ratios, then each implementation's time beside the least that the card allows, and its memory."""
    if not entries:
        return []
    ratios = [row[: len(RATIOS)] for entry in entries for row in case_rows(entry)]
    facts = [row for entry in entries for row in fact_rows(entry, limits)]
    return [
        table(RATIOS, ratios),
        table(FACTS, facts),
        "".join(f"* **{entry['work']}**: {description(entry)}\n" for entry in entries),
    ]


def fact_rows(entry: Record, limits: Record) -> list[tuple[str, ...]]:
    """Of each implementation: its time, the least by bandwidth and by the rate of products, the most memory."""
    rows: list[tuple[str, ...]] = []
    for place, (name, spread) in enumerate(entry["seconds"].items()):
        least, peak = entry.get("least", {}).get(name, {}), entry.get("peak_bytes", {}).get(name)
        rows.append(
            (
                entry["work"] if place == 0 else "",
                name,
                time_of(spread["median"]),
                f"{1 / spread['median']:.1f}",
                least_time(least.get("bytes"), limits.get("bytes")),
                least_time(least.get("flop"), limits.get(least.get("precision", ""))),
                "" if peak is None else f"{peak / 2**30:.2f} GiB",
            )
        )
    return rows


def least_time(amount: float | None, a_second: float | None) -> str:
    """How long so many bytes or operations take at the card's best; empty where either is unknown."""
    return "" if amount is None or a_second is None else time_of(amount / a_second)


def stage_tables(entries: Sequence[Record], _limits: Record) -> list[str]:
    """A row per stage that ran."""
    if not entries:
        return []
    rows = [(entry["stage"], f"{entry['seconds']:.1f}") for entry in entries]
    return ["Tiny scenes; seconds are mostly Python's start.\n", table(("stage", "seconds"), rows)]


TABLES: Mapping[str, Callable[[Sequence[Record], Record], list[str]]] = {
    "parity": parity_tables,
    "limits": limit_tables,
    "roi_align": case_tables,
    "pyramid": case_tables,
    "training": case_tables,
    "inference": case_tables,
    "pipeline": stage_tables,
}

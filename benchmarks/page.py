"""`benchmarks/README.md`: the results as tables that a person can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.core.files import write_text

HEAD = """# Side by side

Written by `make bench` from `results.json`; do not edit. Implementations run in turns in one process. A ratio is taken
within each round; the table gives the median over the rounds and, in brackets, the quartiles. A first round warms up
and does not count. torchvision is run as its users run it, in float32, and again under the same bf16 autocast as ours;
the goals hold against it in float32.
"""


def write_page(results: Mapping[str, Any], path: Path) -> None:
    """Writes the page from the content of results.json."""
    parts = [HEAD, measured_on(results["conditions"])]
    if "trained_with" in results:
        parts.append(f"The trained models come from a run with {in_words(results['trained_with'])}.\n")
    rows = [row for entry in results["cases"] for row in case_rows(entry)]
    parts.append(table(("work", "ours", "theirs", "ours takes", "theirs takes", "times faster", "goal"), rows))
    parts.append("## What was measured\n")
    parts += [f"* **{entry['work']}**: {description(entry)}" for entry in results["cases"]]
    if "steps" in results:
        parts.append("\n## Against the machine's limit\n\n" + limit(results["peak_gflop_a_second"]))
        head = ("step", "GFLOP", "seconds", "share of the bf16 peak")
        lines = [
            (
                step["step"],
                f"{step['gflop']:.0f}",
                f"{step['seconds']:.3f}",
                f"{100 * step['share_of_bf16_peak']:.0f} %",
            )
            for step in results["steps"]
        ]
        parts.append(table(head, lines))
    if "accuracies" in results:
        parts.append("\n## What bf16 costs in accuracy\n\nThe same trained detector and rules on the test split:\n")
        parts.append(accuracy_table(results["accuracies"]))
    write_text(path, "\n".join(parts).rstrip() + "\n")


def measured_on(found: Mapping[str, Any]) -> str:
    """The machine in one line."""
    return f"Measured on: {in_words(found)}.\n"


def in_words(facts: Mapping[str, Any]) -> str:
    """Names and values in one line."""
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def limit(peak: Mapping[str, float]) -> str:
    """The machine's measured peak in one line."""
    numbers = " and ".join(f"{value:.0f} GFLOP a second in {name}" for name, value in peak.items())
    return f"Square matrices of 2048 multiply at {numbers} (best of two seconds).\n"


def case_rows(entry: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row per baseline; the goal stands beside the first."""
    ours, *baselines = entry["seconds"]
    rows: list[tuple[str, ...]] = []
    for place, baseline in enumerate(baselines):
        ratio = entry["ratios"][baseline]
        rows.append(
            (
                entry["work"] if place == 0 else "",
                ours,
                baseline,
                time_of(entry["seconds"][ours]["median"]),
                time_of(entry["seconds"][baseline]["median"]),
                f"{ratio['median']:.1f} ({ratio['low']:.1f} to {ratio['high']:.1f})",
                goal(entry["goal"], ratio["median"]) if place == 0 else "",
            )
        )
    return rows


def accuracy_table(accuracies: Mapping[str, Mapping[str, float | None]]) -> str:
    """AP by precision."""
    names = list(next(iter(accuracies.values())))
    head = ("precision", *(name.replace("_", " ").replace("ap", "AP") for name in names))
    rows = [(kind, *("" if one[n] is None else f"{one[n]:.3f}" for n in names)) for kind, one in accuracies.items()]
    return table(head, rows)


def goal(wanted: float | None, reached: float) -> str:
    """The goal, and whether it was met."""
    return "" if wanted is None else f"{wanted:g}: {'met' if reached >= wanted else 'missed'}"


def description(entry: Mapping[str, Any]) -> str:
    """Conditions, rounds, agreement."""
    text = f"{entry['conditions']}; {entry['rounds']} rounds"
    return f"{text}; {entry['agreement']}." if entry["agreement"] else f"{text}."


def time_of(seconds: float) -> str:
    """Seconds, or milliseconds where there are few, or microseconds where there are very few."""
    if seconds < 1e-3:
        return f"{1e6 * seconds:.1f} µs"
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"

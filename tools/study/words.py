"""What a study says in words: sentences that follow from its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd

from src.reporting.formatting import listing, metric_name, plural, sentence, signed
from tools.study.plan import Study
from tools.study.statistics import LEVEL, Difference

INTERVALS: Final = (
    "A difference counts as larger than seeds make where its 95 % interval over seeds (Student's t; the spread of "
    "paired differences, pooled over the variants) leaves out 0. All runs share the same test images; another draw of "
    "images moves the numbers too, which these intervals leave out."
)


def answer(baseline: str, compared: Mapping[str, Sequence[Difference]]) -> list[str]:
    """The answer in sentences: which differences are larger than seeds make, and what to do.

    Args:
        baseline: the variant that others are compared with.
        compared: differences by metric.
    """
    every = [one for found in compared.values() for one in found]
    if not every:
        return ["No variant can be compared with the baseline yet: no seed has been run in both."]
    if all(one.margin is None for one in every):
        return ["Each variant was run with one seed, so no difference can be told from what another seed would do."]
    shown: dict[str, list[Difference]] = {one.variant: [] for one in every}
    for one in every:
        if one.is_shown:
            shown[one.variant].append(one)
    larger, chance = sum(map(len, shown.values())), (1 - LEVEL) * len(every)
    count = (
        f"Of {plural(len(every), 'comparison')} with '{baseline}', {larger} are larger than seeds make; "
        f"chance alone would give about {chance:.1g}."
    )
    return [count, *(_of_variant(variant, found) for variant, found in shown.items()), _advice(baseline, shown)]


def _of_variant(variant: str, shown: Sequence[Difference]) -> str:
    if not shown:
        return f"{sentence(variant)}: nothing that another seed would not do."
    return f"{sentence(variant)}: " + listing([f"{metric_name(one.metric)} {signed(one.mean)}" for one in shown]) + "."


def _advice(baseline: str, shown: Mapping[str, Sequence[Difference]]) -> str:
    """What the numbers speak for: variants that gain and lose nothing, else the baseline."""
    better = [f"'{variant}'" for variant, found in shown.items() if found and min(one.mean for one in found) > 0]
    if better:
        return f"These runs speak for {listing(better)}: better in what differs, worse in nothing that differs."
    mixed = [f"'{variant}'" for variant, found in shown.items() if found and max(one.mean for one in found) > 0]
    if mixed:
        return f"{listing(mixed)}: one result is traded for another. Take such a setting for the result that you need."
    return f"These runs speak for staying with '{baseline}': nothing else gains more than a seed does."


def conditions(study: Study, frame: pd.DataFrame) -> list[str]:
    """What was run, and how to read the intervals.

    Args:
        study: its settings and runs.
        frame: a row a run with `commit`.
    """
    commits = [str(commit) for commit in frame["commit"].unique()]
    setting = f"settings/{study.file.settings}.yaml" if study.file.settings else "params.yaml as it is"
    counted = f"{plural(len(frame), 'run')} of {len(study.runs)}, at {setting}, of the code at {listing(commits)}."
    mixed = "Runs of more than one state of the code are compared here; --fresh runs all anew."
    return [
        counted + (f" {mixed}" if len(commits) > 1 else ""),
        f"Every run ends with the stage {study.file.target}; runs of one seed differ by the variant's settings alone.",
        INTERVALS,
    ]

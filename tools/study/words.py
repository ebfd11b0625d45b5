"""What a study says in words: sentences that follow from its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd

from src.reporting.answers.studies import LEVEL, Difference
from src.reporting.formatting import listing, metric_name, plural, score, sentence, signed
from tools.study.plan import Study

PAIRS: Final = (
    "runs of one seed differ by the variant's settings, and by rounding where several at once left them other numbers "
    "of threads."
)
SEEDS: Final = (
    "A difference counts as larger than seeds make where its 95 % interval over seeds (Student's t; the spread of "
    "paired differences, pooled over the variants) leaves out 0."
)
IMAGES: Final = (
    "An interval over test images holds 95 % of what 1000 draws of the test images, with replacement, make of the mean "
    "over seeds, all runs in the same draw: it says what other images of this kind would do to these same trainings, "
    "and leaves out what another seed would."
)
NO_IMAGES: Final = (
    "All runs share the same test images, and another draw of images moves the numbers too: how far is not known here, "
    "since no detections were in DVC's cache or the runs had different test images."
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
    if larger and any(one.images is not None for one in every):
        count += f" Other test images would show {sum(one.is_clear for one in every)} of them too."
    return [count, *(_of_variant(variant, found) for variant, found in shown.items()), _advice(baseline, shown)]


def _of_variant(variant: str, shown: Sequence[Difference]) -> str:
    if not shown:
        return f"{sentence(variant)}: nothing that another seed would not do."
    return f"{sentence(variant)}: {listing([_in_words(one) for one in shown])}."


def _in_words(one: Difference) -> str:
    text = f"{metric_name(one.metric)} {signed(one.mean)}"
    if one.images is None:
        return text
    doubt = "" if one.is_clear else ", so perhaps these images' luck"
    return f"{text} ({signed(one.images[0])} to {signed(one.images[1])} over test images{doubt})"


def _advice(baseline: str, shown: Mapping[str, Sequence[Difference]]) -> str:
    """What the numbers speak for: variants that gain and lose nothing, else the baseline."""
    shown = {variant: [one for one in found if one.is_clear] for variant, found in shown.items()}
    better = [f"'{variant}'" for variant, found in shown.items() if found and min(one.mean for one in found) > 0]
    if better:
        return f"These runs speak for {listing(better)}: better in what differs, worse in nothing that differs."
    mixed = [f"'{variant}'" for variant, found in shown.items() if found and max(one.mean for one in found) > 0]
    if mixed:
        return f"{listing(mixed)}: one result is traded for another. Take such a setting for the result that you need."
    return f"These runs speak for staying with '{baseline}': nothing else gains more than luck does."


def spreads(frame: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """The answer of a study without a comparison: how far seeds alone move each number.

    Args:
        frame: a row a run with the metrics.
        metrics: its columns.
    """
    if len(frame) < 2:
        return ["One run was made, so how far another seed moves its numbers is not known yet."]
    texts = []
    for metric in metrics:
        values = frame[metric].dropna()
        if len(values) > 1:
            texts.append(
                f"{sentence(metric_name(metric))}: {score(values.mean())} on average, standard deviation "
                f"{score(values.std())}, from {score(values.min())} to {score(values.max())}."
            )
    return [f"{plural(len(frame), 'run')} that differ by their seeds alone.", *texts]


def conditions(study: Study, frame: pd.DataFrame, *, has_images: bool) -> list[str]:
    """What was run, and how to read the intervals.

    Args:
        study: its settings and runs.
        frame: a row a run with `run` and `commit`.
        has_images: whether there are intervals over test images.
    """
    commits = [str(commit) for commit in frame["commit"].unique()]
    setting = f"settings/{study.file.settings}.yaml" if study.file.settings else "params.yaml as it is"
    runs = plural(frame["run"].nunique(), "run")
    counted = f"{runs} of {len(study.runs)}, at {setting}, of the code at {listing(commits)}."
    mixed = "Runs of more than one state of the code are compared here; --fresh runs all anew."
    return [
        counted + (f" {mixed}" if len(commits) > 1 else ""),
        f"Every run ends with the stage {study.file.target}; {PAIRS}",
        *([f"'{study.file.baseline}' is the other detector of the same runs."] if study.file.is_within_runs else []),
        *([SEEDS, IMAGES if has_images else NO_IMAGES] if study.is_comparison else []),
    ]

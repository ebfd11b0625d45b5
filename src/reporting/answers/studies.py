"""Studies whose results stand under `docs/studies/`: what the report cites of them, read from their files.

`python -m tools.study <name> --publish` writes a study there; where there is none, the report says nothing of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from src.core.errors import invalid
from src.core.files import read_json, write_json
from src.reporting.answers.answer import Answer, Table
from src.reporting.formatting import listing, metric_name, plural, score, signed
from src.reporting.run_results import RunResults

FOLDER: Final = Path("docs/studies")
CITED: Final = ("box_ap", "box_ap50", "mask_ap", "ap", "ap50")  # metrics in the report's table of a study
SEED_ALONE: Final = "noise"  # the study that repeats one setting
LEVEL: Final = 0.95  # of all intervals
DATA: Final = ("source", "train_images", "measured_on", "measured_images")  # that a run shares with a study


@dataclass(frozen=True)
class Difference:
    """A variant's metric against the baseline's, over the seeds that both have.

    Attributes:
        variant: its name.
        metric: its dotted name.
        pairs: seeds that both have.
        mean: of the paired differences.
        margin: half of the interval in which the mean lies at 95 %, from seeds alone; None where one seed says nothing.
        images: 95 % of what draws of the test images leave of the mean; None where that is not known.
    """

    variant: str
    metric: str
    pairs: int
    mean: float
    margin: float | None
    images: tuple[float, float] | None = None

    @property
    def is_shown(self) -> bool:
        """Whether it is larger than what seeds do to it."""
        return self.margin is not None and abs(self.mean) > self.margin

    @property
    def is_clear(self) -> bool:
        """Whether it is larger than that, and other test images would show it too, as far as that is known."""
        return self.is_shown and (self.images is None or self.images[0] > 0 or self.images[1] < 0)


@dataclass(frozen=True)
class Spread:
    """A number of one variant over its seeds: mean and sample standard deviation; None of fewer than two."""

    variant: str
    metric: str
    runs: int
    mean: float
    deviation: float | None


@dataclass(frozen=True)
class PublishedStudy:
    """The content of `docs/studies/<name>.json`.

    Attributes:
        name: of the study, with its setting where that is not the study's own.
        question: that it answers.
        settings: the file of `settings/` that its runs had, or `default`.
        data: what they trained and were measured on, as `metrics/provenance.json` says it.
        baseline: what variants are compared with.
        seeds: runs of each variant.
        commits: of the code.
        spreads: of each variant's numbers.
        differences: from the baseline; none where seeds alone were studied.
    """

    name: str
    question: str
    settings: str
    data: dict[str, Any]
    baseline: str
    seeds: int
    commits: list[str]
    spreads: list[Spread]
    differences: list[Difference]

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def read(cls, path: Path) -> PublishedStudy:
        """The study of a file.

        Raises:
            InputError: it is not one that `write` wrote.
        """
        try:
            tree: Mapping[str, Any] = read_json(path)
            spreads = [Spread(**one) for one in tree["spreads"]]
            differences = [
                Difference(**one | {"images": one["images"] and tuple(one["images"])}) for one in tree["differences"]
            ]
            return cls(**{**tree, "spreads": spreads, "differences": differences})
        except (KeyError, TypeError, ValueError) as error:
            todo = "a study as python -m tools.study <name> --publish writes it"
            raise invalid(path, todo, error) from None

    @property
    def conditions(self) -> str:
        """Setting, seeds, images and code in words."""
        setting = f"{self.settings} setting"
        images = self.data.get("measured_images")
        counted = "" if images is None else f", {plural(images, 'test image')} of source {self.data.get('source')}"
        return f"{setting}, {plural(self.seeds, 'seed')}{counted}, code at {listing(self.commits)}"


def published(root: Path, name: str, settings: str) -> PublishedStudy | None:
    """A study's results: those at these settings if there are such, else those at the study's own.

    Args:
        root: the workspace.
        name: of a file in `studies/`.
        settings: the run's file of `settings/`, or `default`.

    Raises:
        InputError: a file is broken.
    """
    known = [root / FOLDER / f"{name}{suffix}.json" for suffix in ("", f"-{settings}")]
    found = [PublishedStudy.read(path) for path in known if path.is_file()]
    return next((one for one in found if one.settings == settings), found[0] if found else None)


def with_study(answer: Answer, results: RunResults, name: str) -> Answer:
    """The answer with a study's numbers as table `study` and its outcome as words `study`; empty words without one."""
    study = published(results.root, name, results.params.report.settings)
    if study is None:
        return dataclasses.replace(answer, words={**answer.words, "study": ""})
    tables = {**answer.tables, "study": differences_table(study)}
    return dataclasses.replace(answer, words={**answer.words, "study": outcome(study)}, tables=tables)


def outcome(study: PublishedStudy) -> str:
    """Which of a study's differences are larger than seeds and test images make, in words, variant by variant."""
    clear = [one for one in study.differences if one.is_clear]
    head = (
        f"The study {study.name} (docs/studies/{study.name}.md; {study.conditions}) compares with '{study.baseline}' "
        f"in {plural(len(study.differences), 'number')}, of which chance alone would move {chance(study)} by more than "
        "seeds do."
    )
    if not clear:
        return f"{head} No difference is larger than another seed or other test images would make it."
    variants = dict.fromkeys(one.variant for one in clear)
    moved = {name: [one for one in clear if one.variant == name] for name in variants}
    texts = [
        f"'{name}' moved {listing([f'{metric_name(one.metric)} by {signed(one.mean)}' for one in found])}"
        for name, found in moved.items()
    ]
    return f"{head} Larger than another seed or other test images would make them: {'; '.join(texts)}."


def chance(study: PublishedStudy) -> str:
    """How many of so many comparisons come out larger than seeds make at 95 %, where nothing differs."""
    return f"about {(1 - LEVEL) * len(study.differences):.1g}"


def differences_table(study: PublishedStudy) -> Table:
    """Differences of the metrics that are cited, with both intervals."""
    rows = []
    for one in study.differences:
        if one.metric not in CITED:
            continue
        seeds = "" if one.margin is None else f" ({signed(one.mean - one.margin)} to {signed(one.mean + one.margin)})"
        images = "" if one.images is None else f"{signed(one.images[0])} to {signed(one.images[1])}"
        rows.append([one.variant, metric_name(one.metric), f"{signed(one.mean)}{seeds}", images])
    caption = (
        f"Study {study.name}, {study.conditions}: differences from '{study.baseline}', means over seeds, in brackets "
        "their 95% interval over seeds, and that over test images."
    )
    return Table(("variant", "number", "difference (over seeds)", "over test images"), rows, caption)


def seed_study(results: RunResults) -> PublishedStudy | None:
    """The study of seeds alone, if it was published for the run's own settings file and data."""
    study = published(results.root, SEED_ALONE, results.params.report.settings)
    measured_on = results.value("provenance")
    if study is None or study.settings != results.params.report.settings:
        return None
    return study if all(study.data.get(key) == measured_on.get(key) for key in DATA) else None


def seed_spreads(results: RunResults) -> dict[str, float]:
    """The standard deviation that seeds make of a number, by its name in `metrics/summary.json`; empty if unknown."""
    study = seed_study(results)
    return {} if study is None else {one.metric: one.deviation for one in study.spreads if one.deviation is not None}


def seeds_in_words(results: RunResults) -> str:
    """How far another seed moves the headline numbers; empty where that is not known."""
    study = seed_study(results)
    if study is None:
        return ""
    moved = listing([f"{metric_name(name)} by {score(value)}" for name, value in seed_spreads(results).items()])
    return (
        f"Another seed of joint training moves {moved}: standard deviations over the runs of study {study.name} "
        f"(docs/studies/{study.name}.md; {study.conditions})."
    )

"""A finished study's results under `docs/studies/`, where Git keeps them and the report cites them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from src.core.errors import InputError
from src.core.files import atomic_write, write_text
from src.reporting.answers.answer import Table
from src.reporting.answers.studies import FOLDER, Difference, PublishedStudy, Spread
from src.reporting.formatting import plural
from tools.study.page import (
    DIFFERENCES,
    compare,
    differences_table,
    has_images,
    images_table,
    results_table,
    sentences,
)
from tools.study.plan import Study
from tools.study.results import MEASURED_ON
from tools.study.statistics import spread
from tools.study.words import conditions


def publish(study: Study, frame: pd.DataFrame) -> Path:
    """Writes the table (csv), what the report cites (json), the figure and a page for people (md); gives the page.

    Args:
        study: its question and variants; `page.write_page` has drawn its figure.
        frame: a row a run, as `results.collect` gives it.

    Raises:
        InputError: runs are missing.
    """
    missing = len(study.runs) - (frame["run"].nunique() if len(frame) else 0)
    if missing:
        raise InputError(f"{plural(missing, 'run')} of {len(study.runs)} are missing; first: make study NAME=...")
    compared = compare(study, frame)
    stem = FOLDER / study.name
    with atomic_write(stem.with_suffix(".csv")) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")
    summary(study, frame, compared).write(stem.with_suffix(".json"))
    drawn = study.folder / DIFFERENCES
    if drawn.is_file():
        shutil.copyfile(drawn, stem.with_suffix(".png"))
    page = stem.with_suffix(".md")
    write_text(page, text(study, frame, compared, has_figure=drawn.is_file()))
    return page


def summary(study: Study, frame: pd.DataFrame, compared: dict[str, list[Difference]]) -> PublishedStudy:
    """The study's numbers as the report reads them."""
    return PublishedStudy(
        name=study.name,
        question=study.file.question,
        settings=study.setting,
        data={key: _plain(frame[column].iloc[0]) for column, key in MEASURED_ON.items() if column in frame},
        baseline=study.file.baseline,
        seeds=study.seeds,
        commits=[str(commit) for commit in frame["commit"].unique()],
        spreads=[one for metric in study.file.metrics for one in _spreads(frame, metric)],
        differences=[one for found in compared.values() for one in found],
    )


def _spreads(frame: pd.DataFrame, metric: str) -> list[Spread]:
    table = spread(frame, metric).dropna(subset=["mean"])
    return [
        Spread(str(variant), metric, int(count), float(mean), None if pd.isna(deviation) else float(deviation))
        for variant, mean, deviation, count in table.itertuples()
    ]


def _plain(value: Any) -> Any:
    """A value of a table as JSON has it."""
    return value.item() if hasattr(value, "item") else value


def text(study: Study, frame: pd.DataFrame, compared: dict[str, list[Difference]], *, has_figure: bool) -> str:
    """The page in Markdown."""
    tables = [results_table(study, frame), differences_table(study, compared), images_table(study, compared)]
    figure = f"![Paired differences by variant]({study.name}.png)"
    parts = [
        f"# {study.file.question}",
        f"Written by `python -m tools.study` with `--publish` from the runs of `studies/{study.source}`; do not edit.",
        "\n".join(f"* {one}" for one in sentences(study, frame, compared)),
        *([figure] if has_figure else []),
        *(markdown(table) for table in tables if table.rows and len(table.head) > 1),
        *conditions(study, frame, has_images=has_images(compared)),
    ]
    return "\n\n".join(parts) + "\n"


def markdown(table: Table) -> str:
    """A table with its caption above it."""
    rows = [table.head, ["---"] * len(table.head), *table.rows]
    return "\n".join([table.caption, "", *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"

"""The page of a study: its question, its answer in words, tables and figures; one file, no network."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pandas as pd
from jinja2 import ChoiceLoader, Environment, FileSystemLoader

from src.core.files import write_text
from src.reporting.answers.answer import Picture, Table
from src.reporting.answers.studies import Difference
from src.reporting.formatting import metric_name, score, signed
from src.reporting.page import environment
from tools.study import figures
from tools.study.draws import read_draws
from tools.study.plan import Study
from tools.study.statistics import differences, spread
from tools.study.words import answer, conditions, spreads

PAGE: Final = "index.html"
DIFFERENCES: Final = "differences.png"
PULLS: Final = "gradients.png"


def write_page(study: Study, frame: pd.DataFrame) -> Path:
    """Writes the figures and the page from the study's table; gives the page's path.

    Args:
        study: its question and variants.
        frame: a row a run, as `results.collect` gives it.
    """
    compared = compare(study, frame)
    page = (
        _templates()
        .get_template("study.html.j2")
        .render(
            study=study,
            answer=sentences(study, frame, compared),
            conditions=conditions(study, frame, has_images=has_images(compared)),
            tables=[
                results_table(study, frame),
                differences_table(study, compared),
                images_table(study, compared),
                _means(frame, "test", "Raw losses on the test images at the end, means over seeds; weights left out."),
                _means(
                    frame,
                    "train",
                    "Raw losses over the last tenth of the training, means over seeds; weights left out.",
                ),
                _means(frame, "pull", "Each loss's share of the gradient on the shared layers, means over seeds."),
                seconds_table(frame),
            ],
            pictures=_pictures(study, frame, compared),
        )
    )
    path = study.folder / PAGE
    write_text(path, page)
    return path


def compare(study: Study, frame: pd.DataFrame) -> dict[str, list[Difference]]:
    """Differences from the baseline by metric, with what other test images would make of them."""
    draws = read_draws(study, frame.to_dict("records"))
    return {metric: differences(frame, study.file.baseline, metric, draws) for metric in study.file.metrics}


def sentences(study: Study, frame: pd.DataFrame, compared: dict[str, list[Difference]]) -> list[str]:
    """The answer in words."""
    if study.is_comparison:
        return answer(study.file.baseline, compared)
    return spreads(frame, study.file.metrics)


@functools.cache
def _templates() -> Environment:
    """The report's, with the study's own."""
    report = environment()
    own = FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8")
    return report.overlay(loader=ChoiceLoader([own, *([report.loader] if report.loader else [])]))


def results_table(study: Study, frame: pd.DataFrame) -> Table:
    """Mean and spread over seeds."""
    tables = {metric: spread(frame, metric) for metric in study.file.metrics}
    variants = list(frame["variant"].unique())
    rows = [[variant, *(_mean_and_spread(tables[metric], variant) for metric in tables)] for variant in variants]
    return Table(("", *map(metric_name, tables)), rows, "Mean and standard deviation over seeds.")


def _mean_and_spread(table: pd.DataFrame, variant: str) -> str:
    mean, deviation, runs = table.loc[variant, ["mean", "std", "count"]]
    return score(mean) + (f" ± {score(deviation)}" if runs > 1 else "")


def differences_table(study: Study, compared: dict[str, list[Difference]]) -> Table:
    """Differences with their intervals over seeds."""
    caption = (
        f"Paired differences from '{study.file.baseline}', with half of their 95 % interval over seeds; * leaves out 0."
    )
    return _by_variant(compared, _cell, caption)


def images_table(study: Study, compared: dict[str, list[Difference]]) -> Table:
    """Differences with their intervals over test images; no rows where none is known."""
    known = {metric: found for metric, found in compared.items() if any(one.images for one in found)}
    caption = (
        f"The same differences from '{study.file.baseline}': 95 % of the draws of the test images leave the mean over "
        "seeds between these."
    )
    return _by_variant(known, _between, caption)


def _by_variant(
    compared: dict[str, list[Difference]], write: Callable[[Difference | None], str], caption: str
) -> Table:
    cells = {(one.variant, metric): one for metric, found in compared.items() for one in found}
    variants = list(dict.fromkeys(variant for variant, _ in cells))
    rows = [[variant, *(write(cells.get((variant, metric))) for metric in compared)] for variant in variants]
    return Table(("", *map(metric_name, compared)), rows, caption)


def _between(one: Difference | None) -> str:
    return "none" if one is None or one.images is None else f"{signed(one.images[0])} to {signed(one.images[1])}"


def has_images(compared: dict[str, list[Difference]]) -> bool:
    """Whether any interval over test images is known."""
    return any(one.images is not None for found in compared.values() for one in found)


def _cell(one: Difference | None) -> str:
    if one is None:
        return "none"
    margin = "" if one.margin is None else f" ± {score(one.margin)}"
    return f"{signed(one.mean)}{margin}{' *' if one.is_shown else ''}"


def _means(frame: pd.DataFrame, kind: str, caption: str, digits: int = 3) -> Table:
    columns = [column for column in frame if column.startswith(f"{kind}_")]
    means = frame.groupby("variant", sort=False)[columns].mean().dropna(how="all")
    rows = [
        [str(variant), *("none" if pd.isna(v) else score(v, digits) for v in means.loc[variant])]
        for variant in means.index
    ]
    return Table(("", *(metric_name(column.removeprefix(f"{kind}_")) for column in columns)), rows, caption)


def seconds_table(frame: pd.DataFrame) -> Table:
    """How long each training took in each variant; for schemes at equal time, epochs are set by these."""
    caption = (
        "Seconds of each training, means over the runs that made it on this machine; a training that a run took from "
        "DVC's cache, as all of one seed do where nothing differs, has none."
    )
    return _means(frame, "seconds", caption, digits=1)


def _pictures(study: Study, frame: pd.DataFrame, compared: dict[str, list[Difference]]) -> list[Picture]:
    pictures = []
    known = {metric: found for metric, found in compared.items() if found}
    if known:
        path = study.folder / DIFFERENCES
        figures.plot_differences(frame, study.file.baseline, known, path)
        caption = (
            f"Each variant against '{study.file.baseline}': a dot a seed, the bar its mean, the line the 95 % interval "
            "over seeds. Filled bars are larger than seeds make."
        )
        if has_images(compared):
            caption += " The line below a bar is its 95 % interval over test images."
        pictures.append(
            Picture(path, "Paired differences of each metric by variant; the table has the numbers.", caption)
        )
    if figures.has_pulls(frame):
        path = study.folder / PULLS
        figures.plot_pulls(frame, path)
        caption = "Each loss's share of the gradient on the layers that all share, mean over the training and seeds."
        pictures.append(Picture(path, "Stacked bars by variant: shares of the five losses.", caption))
    return pictures

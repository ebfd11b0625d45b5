"""Compares two runs on one page: differences with intervals, objects fixed and broken, curves, settings.

`make compare A=HEAD B=<run>`, or `python -m tools.compare HEAD <run>`. A run is `workspace`, a Git revision, or the
name of an experiment. Nothing is run and nothing is checked out: files come from DVC's cache.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from ruamel.yaml import YAML

from src.core import paths
from src.core.errors import InputError, invalid, one_line
from src.core.files import read_json
from src.core.params_file import leaves
from src.data.dataset import DatasetFile
from src.evaluation.analysis import SecondStageAnalysis, read_analyses
from src.evaluation.funnel import FOUND
from src.evaluation.instances import GroundTruth, ground_truth_of
from src.evaluation.run_comparison import Changed, Run, changed_objects, compare, shared_images
from src.figures.comparison import plot_both, plot_funnels, plot_overlaid
from src.reporting.answers.answer import Picture
from src.reporting.comparison import Compared, build_comparison, verdict
from src.reporting.formatting import score, signed
from src.reporting.loss_curves import HISTORIES
from tools.revisions import Revision

SHOWN: Final = 8  # objects fixed, and as many broken
ABSENT: Final = "''"


@dataclass(frozen=True)
class Sides:
    """Both runs, on the test images that they share."""

    revisions: tuple[Revision, Revision]
    settings: tuple[dict[str, Any], dict[str, Any]]
    runs: tuple[Run, Run]
    left_out: int

    @property
    def names(self) -> tuple[str, str]:
        """Of the runs."""
        return self.revisions[0].name, self.revisions[1].name


def main(arguments: Sequence[str]) -> int:
    """Writes the page and prints the differences; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.compare", description=str(__doc__).splitlines()[0])
    for place in ("first", "second"):
        parser.add_argument(place, help="workspace, a Git revision, or the name of an experiment")
    parser.add_argument("--out", type=Path, default=Path(".cache/compare.html"), help="the page")
    parser.add_argument("--resamples", type=int, default=1000, help="draws of the test images behind the intervals")
    given = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            compared = compare_runs(given.first, given.second, Path(folder), given.out, given.resamples)
    except (InputError, OSError) as error:
        print(f"compare: {one_line(error)}", file=sys.stderr)
        return 1
    print("\n".join([*lines_of(compared), "", f"  {given.out.resolve()}"]))
    return 0


def compare_runs(first: str, second: str, folder: Path, page: Path, resamples: int) -> Compared:
    """Writes the page of two runs.

    Args:
        first: a run's name.
        second: another's.
        folder: for files on the way.
        page: HTML file to write.
        resamples: draws of the test images.

    Raises:
        InputError: a run is unknown, its outputs are not here, or the two share no test image.
    """
    sides = read_sides(Revision.find(first, folder / "first"), Revision.find(second, folder / "second"))
    fixed, broken = changed_objects(*sides.runs)
    charts = folder / "charts"
    compared = Compared(
        names=sides.names,
        settings=differing(*sides.settings),
        images=len(sides.runs[0].truth),
        left_out=sides.left_out,
        differences=compare(*sides.runs, resamples),
        headlines=(summary_of(sides.revisions[0]), summary_of(sides.revisions[1])),
        funnels=(sides.runs[0].funnel, sides.runs[1].funnel),
        fixed=gallery(sides, fixed[:SHOWN], charts / "fixed"),
        broken=gallery(sides, broken[:SHOWN], charts / "broken"),
        counts=(len(fixed), len(broken)),
        curves=curves(sides.revisions, charts),
    )
    plot_funnels(dict(zip(two_names(sides.names), compared.funnels, strict=True)), charts / "funnel.png")
    caption = "Objects that each step loses, in both runs."
    build_comparison(compared, Picture(charts / "funnel.png", caption, caption), page)
    return compared


def read_sides(first: Revision, second: Revision) -> Sides:
    """What both found on the images that they share.

    Raises:
        InputError: an output is not here, or they share none.
    """
    settings = read_settings(first), read_settings(second)
    whole = read_run(first, settings[0]), read_run(second, settings[1])
    pairs = shared_images(whole[0].truth, whole[1].truth)
    if not pairs:
        counts = f"{first.name} has {len(whole[0].truth)}, {second.name} {len(whole[1].truth)}"
        todo = "run both with the same data.* settings and the same evaluate.split"
        raise InputError(f"the runs share no test image ({counts}; the same name and objects); {todo}")
    left_out = len(whole[0].truth) + len(whole[1].truth) - 2 * len(pairs)
    runs = whole[0].only([one for one, _ in pairs]), whole[1].only([other for _, other in pairs])
    return Sides((first, second), settings, runs, left_out)


def read_settings(revision: Revision) -> dict[str, Any]:
    """Dotted keys and values of the revision's params.yaml."""
    return dict(leaves(YAML(typ="safe", pure=True).load(revision.file("params.yaml").read_text(encoding="utf-8"))))


def read_run(revision: Revision, settings: Mapping[str, Any]) -> Run:
    """What the revision's `detect` found, under its own border rule and threshold."""
    truth, analyses = read_outputs(revision)
    return Run.from_analyses(truth, analyses, settings["evaluate.border"], settings["predict.score_threshold"])


def read_outputs(revision: Revision) -> tuple[list[GroundTruth], list[SecondStageAnalysis]]:
    """The revision's test images, and what its `detect` wrote of each.

    Raises:
        InputError: they are not here, or of another making.
    """
    path = revision.file(str(paths.GROUND_TRUTH))
    try:
        truth = ground_truth_of(json.loads(path.read_text(encoding="utf-8")))
        pairs = list(zip(truth, read_analyses(revision.file(str(paths.DETECTIONS))), strict=True))
    except InputError as error:
        raise InputError(f"{revision.name}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise invalid(f"{revision.name}: {paths.GROUND_TRUTH}", "what stage `detect` of today writes", error) from None
    return [one for one, _ in pairs], [analysis for _, analysis in pairs]


def summary_of(revision: Revision) -> dict[str, Any]:
    """The revision's headline numbers."""
    summary = read_json(revision.file(str(paths.SUMMARY)))
    return dict(summary)


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """By key, both values where they differ."""
    keys = [key for key in {**first, **second} if first.get(key, ABSENT) != second.get(key, ABSENT)]
    return {key: (first.get(key, ABSENT), second.get(key, ABSENT)) for key in keys}


def gallery(sides: Sides, changed: Sequence[Changed], stem: Path) -> list[Picture]:
    """Each object as both runs saw it."""
    if not changed:
        return []
    pictures = []
    with DatasetFile(sides.revisions[1].file(str(paths.DATASET))) as dataset:
        places = {name: place for place, name in enumerate(dataset.names)}
        for number, one in enumerate(changed):
            truth = sides.runs[1].truth[one.image]
            panels = {}
            for name, run, fate, settings in zip(
                two_names(sides.names), sides.runs, (one.before, one.after), sides.settings, strict=True
            ):
                found = run.found[one.image]
                sure = found.keep(found.scores >= settings["predict.score_threshold"])
                panels[f"{name}: {FOUND if fate == FOUND else 'lost at ' + fate.replace('_', ' ')}"] = sure
            box = truth.boxes[~truth.crowd][one.object]
            path = stem.with_name(f"{stem.name}-{number}.png")
            plot_both(dataset.image(places[truth.name]), panels, box, path)
            pictures.append(Picture(path, f"{truth.name} as both runs saw it", f"{truth.name}: the dotted object."))
    return pictures


def curves(revisions: tuple[Revision, Revision], folder: Path) -> list[Picture]:
    """Losses of each training that both runs made and that differ, laid over each other."""
    pictures = []
    for stage, (terms, title) in HISTORIES.items():
        for part, words in (("train", "training losses"), ("test", "losses on test images")):
            files = [revision.maybe(str(paths.plots(stage) / f"{part}.csv")) for revision in revisions]
            known = [file for file in files if file is not None]
            if len(known) < 2 or known[0].read_bytes() == known[1].read_bytes():
                continue
            names = two_names((revisions[0].name, revisions[1].name))
            tables = dict(zip(names, map(pd.read_csv, known), strict=True))
            columns = [term for term in (*terms, "total") if any(term in table for table in tables.values())]
            path = folder / f"{stage}-{part}.png"
            plot_overlaid(tables, columns, path)
            pictures.append(Picture(path, f"{title}: {words} of both runs", f"{title}: {words}."))
    return pictures


def two_names(names: tuple[str, str]) -> tuple[str, str]:
    """Two names that differ, also where a run is compared with itself."""
    return names if names[0] != names[1] else (names[0], f"{names[1]} (again)")


def lines_of(compared: Compared) -> list[str]:
    """The comparison in the terminal."""
    numbers = [
        f"  {one.name:<14} {score(one.first):>6} {score(one.second):>6}  {signed(one.difference)}"
        + ("" if one.low is None else f"  ({signed(one.low)} to {signed(one.high)})")
        for one in compared.differences
    ]
    return ["", verdict(compared), "", *numbers]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

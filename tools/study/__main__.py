"""Answers a question by experiment: runs what a file of `studies/` asks for, and writes its table, figures and page.

`python -m tools.study loss_weights` (or `make study NAME=loss_weights`) queues the runs that are missing as experiments
of DVC and waits for them; stopped, it goes on when called again. `--page` writes the page from what there is;
`--publish` writes what the report cites, under docs/studies/, once no run is missing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from src.core.errors import InputError, one_line
from src.reporting.formatting import duration, plural
from tools.sessions import INTERRUPTED
from tools.study import experiments
from tools.study.page import write_page
from tools.study.plan import Run, Study, read_study
from tools.study.publish import publish
from tools.study.results import collect, read_rows


def main(arguments: Sequence[str]) -> int:
    """Runs a study; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.study", description=str(__doc__).splitlines()[0])
    parser.add_argument("name", help="a file of studies/, without .yaml")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once; they share the cores")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results and run all anew")
    parser.add_argument("--settings", default="", help="a file of settings/, or default, in place of the study's own")
    parser.add_argument("--page", action="store_true", help="run nothing: the page of the runs that there are")
    parser.add_argument("--publish", action="store_true", help="run nothing: write the results under docs/studies/")
    given = parser.parse_args(arguments)
    try:
        study = read_study(given.name, given.settings)
        if given.publish:
            return _publish(study)
        return _answer(study, jobs=given.jobs, is_fresh=given.fresh, page_only=given.page)
    except (InputError, OSError) as error:
        print(f"study: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("study: stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def _answer(study: Study, *, jobs: int, is_fresh: bool, page_only: bool) -> int:
    if is_fresh:
        _forget(study)
    missing = missing_runs(study)
    if missing and not page_only:
        estimate = duration(60 * study.file.minutes * len(missing) / jobs)
        print(f"{plural(len(missing), 'run')} of {len(study.runs)} to go: about {estimate} on two cores", flush=True)
        try:
            experiments.compute(study, missing, jobs)
        finally:
            frame = collect(study, experiments.finished(study.runs))
    else:
        frame = collect(study, experiments.finished(study.runs))
    return _show(study, frame)


def _publish(study: Study) -> int:
    frame = collect(study, experiments.finished(study.runs))
    if len(frame):
        write_page(study, frame)
    print(f"\n  {publish(study, frame).resolve()}\n")
    return 0


def missing_runs(study: Study) -> list[Run]:
    """Runs that neither the study's table nor an experiment has."""
    known = {row["run"] for row in read_rows(study)} | experiments.finished(study.runs).keys()
    return [run for run in study.runs if run.name not in known]


def _show(study: Study, frame: pd.DataFrame) -> int:
    if frame.empty:
        print("study: no run has ended yet", file=sys.stderr)
        return 1
    print(f"\n  {Path(write_page(study, frame)).resolve()}\n")
    return 0


def _forget(study: Study) -> None:
    names = list(experiments.finished(study.runs))
    if names:
        experiments.dvc("exp", "remove", *names)
    shutil.rmtree(study.folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

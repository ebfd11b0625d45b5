"""The table of a study: a row a run, read from the commits of DVC's experiments."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, Final

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException

from src.core import paths
from src.core.errors import InputError
from src.core.files import atomic_write
from tools.study.experiments import git
from tools.study.plan import Run, Study

TABLE: Final = "results.csv"
END: Final = 0.1  # share of the iterations over which training losses are averaged
WEIGHTED: Final = ("_weighted", "total")
NORM: Final = "_norm"


def collect(study: Study, commits: Mapping[str, str]) -> pd.DataFrame:
    """Reads what each run measured and writes it to the study's table; rows of the table stay as they are.

    Args:
        study: its runs.
        commits: of the experiments, by the name of the run; see `experiments.finished`.

    Returns:
        A row a run, in the study's order: variant, seed, commit (of the code), the metrics by their dotted names,
        `train_` and `test_` the raw losses at the end, `pull_` the mean share of each loss's gradient.

    Raises:
        InputError: a metric is not among those that were measured, or an experiment's files cannot be read.
    """
    known = {row["run"]: row for row in read_rows(study)}
    rows = [
        known.get(run.name) or _row(study, run, commits[run.name])
        for run in study.runs
        if run.name in known or run.name in commits
    ]
    frame = pd.DataFrame(rows)
    if rows:
        with atomic_write(study.folder / TABLE) as temporary:
            frame.to_csv(temporary, index=False, float_format="%.6g")
    return frame


def read_rows(study: Study) -> list[dict[str, Any]]:
    """Rows of the table that earlier calls wrote, of runs that the study still has."""
    path = study.folder / TABLE
    if not path.is_file():
        return []
    names = {run.name for run in study.runs}
    return [row for row in pd.read_csv(path).to_dict("records") if row["run"] in names]


def _row(study: Study, run: Run, commit: str) -> dict[str, Any]:
    measured = json.loads(git("show", f"{commit}:{paths.metrics('evaluate').as_posix()}"))
    base = git("rev-parse", "--short", f"{commit}^").strip()
    row: dict[str, Any] = {"run": run.name, "variant": run.variant, "seed": run.seed, "commit": base}
    row |= {name: find(measured, name) for name in study.file.metrics}
    for kind in ("train", "test"):
        row |= {f"{kind}_{term}": value for term, value in _last_losses(study, commit, kind).items()}
    return row | {f"pull_{term}": value for term, value in _pulls(study, commit).items()}


def find(measured: Any, name: str) -> float | None:
    """A number of a metrics file by its dotted name.

    Raises:
        InputError: there is none of that name.
    """
    value = measured
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise InputError(f"metrics/evaluate.json has no number '{name}'")
        value = value[key]
    return value


def _last_losses(study: Study, commit: str, kind: str) -> dict[str, float]:
    """The raw losses at the end: the last measurement, or the mean over the last iterations of training."""
    frame = _history(study, commit, kind)
    if frame is None or frame.empty:
        return {}
    terms = [name for name in frame if name not in ("iteration", "epoch") and not name.endswith(WEIGHTED)]
    rows = max(1, round(END * len(frame))) if kind == "train" else 1
    return {term: float(frame[term].iloc[-rows:].mean()) for term in terms}


def _pulls(study: Study, commit: str) -> dict[str, float]:
    frame = _history(study, commit, "gradients")
    if frame is None or frame.empty:
        return {}
    return {term: float(frame[term].mean()) for term in frame if term != "iteration" and not term.endswith(NORM)}


def _history(study: Study, commit: str, kind: str) -> pd.DataFrame | None:
    """A csv that the study's training stage wrote; None where it wrote none."""
    path = (paths.plots(study.file.training) / f"{kind}.csv").as_posix()
    try:
        return pd.read_csv(io.StringIO(dvc.api.read(path, rev=commit)))
    except pd.errors.EmptyDataError:
        return None
    except FileNotFoundError:
        return None
    except DvcException as error:
        raise InputError(f"{path} of {commit[:7]} is not in DVC's cache: {error}") from None

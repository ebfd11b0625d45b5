"""The table of a study: a row a run, read from the commits of DVC's experiments."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from src.core import paths
from src.core.errors import InputError
from src.core.files import atomic_write, read_json
from tools.revisions import Revision
from tools.study.experiments import git
from tools.study.plan import Run, Study

TABLE: Final = "results.csv"
END: Final = 0.1  # share of the iterations over which training losses are averaged
WEIGHTED: Final = ("_weighted", "total")
NORM: Final = "_norm"


def collect(study: Study, commits: Mapping[str, str]) -> pd.DataFrame:
    """Reads what each run measured and writes it to the study's table; rows of experiments that are gone stay.

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
        _row(study, run, commits[run.name]) if run.name in commits else known[run.name]
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
    base = git("rev-parse", "--short", f"{commit}^").strip()
    row: dict[str, Any] = {"run": run.name, "variant": run.variant, "seed": run.seed, "commit": base}
    histories = paths.plots(study.file.training)
    with tempfile.TemporaryDirectory() as folder:
        files = Revision.find(commit, Path(folder))
        measured = read_json(files.file(paths.metrics("evaluate").as_posix()))
        row |= {name: find(measured, name) for name in study.file.metrics}
        for kind in ("train", "test"):
            losses = last_losses(files.file((histories / f"{kind}.csv").as_posix()), is_train=kind == "train")
            row |= {f"{kind}_{term}": value for term, value in losses.items()}
        gradients = files.maybe((histories / "gradients.csv").as_posix())  # of joint training alone
        return row | {f"pull_{term}": value for term, value in (mean_pulls(gradients) if gradients else {}).items()}


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


def last_losses(path: Path, *, is_train: bool) -> dict[str, float]:
    """The raw losses at the end: the last measurement, or the mean over the last iterations of training.

    Args:
        path: a history; one without rows, where nothing was trained, gives none.
        is_train: whether it has a row an iteration.
    """
    frame = pd.read_csv(path)
    terms = [name for name in frame if name not in ("iteration", "epoch") and not name.endswith(WEIGHTED)]
    rows = max(1, round(END * len(frame))) if is_train else 1
    return {term: float(frame[term].iloc[-rows:].mean()) for term in terms} if len(frame) else {}


def mean_pulls(path: Path) -> dict[str, float]:
    """Each loss's mean share of the gradient."""
    frame = pd.read_csv(path)
    terms = [name for name in frame if name != "iteration" and not name.endswith(NORM)]
    return {term: float(frame[term].mean()) for term in terms} if len(frame) else {}

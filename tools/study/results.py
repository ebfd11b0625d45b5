"""The table of a study: a row a run, read from the commits of DVC's experiments."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from src.core import paths
from src.core.errors import InputError
from src.core.files import atomic_write, read_json
from src.core.neighbors import RUNS
from src.reporting.summary import read_seconds
from tools.revisions import Revision
from tools.study.draws import UNKNOWN, detectors_of, keep
from tools.study.experiments import git
from tools.study.plan import Run, Study

TABLE: Final = "results.csv"
END: Final = 0.1  # share of the iterations over which training losses are averaged
MEASURED_ON: Final = {  # columns, and what they are in metrics/provenance.json
    "source": "source",
    "trained_on": "train_images",
    "split": "measured_on",
    "measured_on": "measured_images",
}
TRAININGS: Final = ("backbone", "box_head", "mask_head", "joint", "one_stage")
WEIGHTED: Final = ("_weighted", "total")
NORM: Final = "_norm"


def collect(study: Study, commits: Mapping[str, str]) -> pd.DataFrame:
    """Reads what each run measured and writes it to the study's table; rows of experiments that are gone stay.

    Args:
        study: its runs.
        commits: of the experiments, by the name of the run; see `experiments.finished`.

    Returns:
        A row a run, in the study's order: variant, detector, seed, commit (of the code), what it was measured on with
        `images`, the digest of the test images, the metrics by their dotted names, `train_` and `test_` the raw losses
        at the end, `pull_` the mean share of each loss's gradient, `seconds_` of the trainings. Within runs, a row a
        seed of the baseline as well.

    Raises:
        InputError: a metric is not among those that were measured, or an experiment's files cannot be read.
    """
    known = read_rows(study)
    rows = [row for run in study.runs for row in _rows_of(study, run, commits.get(run.name), known)]
    frame = pd.DataFrame(rows)
    if not rows:
        return frame
    with atomic_write(study.folder / TABLE) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")
    return frame.drop_duplicates(["variant", "seed"], ignore_index=True)  # the baseline stands beside each variant


def read_rows(study: Study) -> list[dict[str, Any]]:
    """Rows of the table that earlier calls wrote, of runs that the study still has."""
    path = study.folder / TABLE
    if not path.is_file():
        return []
    names = {run.name for run in study.runs}
    table = pd.read_csv(path, dtype={"commit": str, "images": str})  # digits alone would become numbers
    for column, value in (("detector", study.file.detector), ("images", UNKNOWN)):  # older tables lack them
        if column not in table:
            table[column] = value
    return [row for row in table.to_dict("records") if row["run"] in names]


def _rows_of(study: Study, run: Run, commit: str | None, known: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A run's rows, from its experiment if there is one."""
    earlier = [row for row in known if row["run"] == run.name]
    if commit is None:
        return earlier
    base = git("rev-parse", "--short", f"{commit}^").strip()
    with tempfile.TemporaryDirectory() as folder:
        files = Revision.find(commit, Path(folder))
        images = keep(study, run.name, files)
        if images == UNKNOWN and earlier:  # no longer in the cache, but was
            images = earlier[0]["images"]
        conditions = {"seed": run.seed, "commit": base, **_measured_on(files), "images": images}
        return [
            {
                "run": run.name,
                "variant": run.variant if name == study.file.detector else study.file.baseline,
                "detector": name,
                **conditions,
                **_numbers(study, files, name),
                **(_losses(study, files) | seconds_of(run.name) if name == study.file.detector else {}),
            }
            for name in detectors_of(study)
        ]


def seconds_of(run: str) -> dict[str, float]:
    """How long the trainings took that the run made itself; what came from DVC's cache has no seconds."""
    known = read_seconds(RUNS / run)
    return {f"seconds_{stage}": known[stage] for stage in TRAININGS if stage in known}


def _measured_on(files: Revision) -> dict[str, Any]:
    """Data behind a run's numbers; none where it did not say."""
    path = files.maybe(str(paths.PROVENANCE))
    found = read_json(path) if path else {}
    return {column: found[key] for column, key in MEASURED_ON.items() if key in found}


def _numbers(study: Study, files: Revision, detector: str) -> dict[str, float | None]:
    """A detector's metrics: of the comparison of both detectors, where a run has both sides."""
    path = paths.COMPARISON if study.file.is_within_runs else paths.metrics("evaluate")
    prefix = f"detectors.{detector}." if study.file.is_within_runs else ""
    measured = read_json(files.file(path.as_posix()))
    return {name: find(measured, prefix + name, path) for name in study.file.metrics}


def _losses(study: Study, files: Revision) -> dict[str, float]:
    """Raw losses at the end and shares of the gradient, of the training that is shown."""
    histories = paths.plots(study.file.training)
    row: dict[str, float] = {}
    for kind in ("train", "test"):
        losses = last_losses(files.file((histories / f"{kind}.csv").as_posix()), is_train=kind == "train")
        row |= {f"{kind}_{term}": value for term, value in losses.items()}
    gradients = files.maybe((histories / "gradients.csv").as_posix())  # of joint training alone
    return row | {f"pull_{term}": value for term, value in (mean_pulls(gradients) if gradients else {}).items()}


def find(measured: Any, name: str, path: Path) -> float | None:
    """A number of a metrics file by its dotted name.

    Args:
        measured: what stands in the file.
        name: of the number.
        path: of the file, for the complaint.

    Raises:
        InputError: there is none of that name.
    """
    value = measured
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise InputError(f"{path} has no number '{name}'")
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

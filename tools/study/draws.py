"""What other test images would do to a study's means: every run's metrics in the same draws of the test images.

Detections come from DVC's cache, as in `tools.compare`, and are measured once a run; the draws stand beside the study's
table, so that they outlive the experiments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Float64

from src.core import paths
from src.core.errors import InputError
from src.core.files import atomic_write
from src.evaluation.analysis import read_detections
from src.evaluation.bootstrap import percentiles
from src.evaluation.drawn_metrics import Drawn, drawn_ap, drawn_metrics, images_digest, weights_of
from src.structures.detector import MASK_RCNN, ONE_STAGE
from tools.compare import read_outputs, read_settings
from tools.revisions import Revision
from tools.study.plan import Study

FOLDER: Final = "draws"
UNKNOWN: Final = "unknown"  # test images of a run whose detections are not in the cache

Draws = Mapping[tuple[str, int], pd.DataFrame]  # by variant and seed: a column a metric, a row a draw


def detectors_of(study: Study) -> list[str]:
    """The detectors that are measured in each run, the baseline's first."""
    return [MASK_RCNN, study.file.detector] if study.file.is_within_runs else [MASK_RCNN]


def keep(study: Study, run: str, files: Revision) -> str:
    """Measures a run in each draw and writes that, unless an earlier call has; gives the digest of its test images.

    Args:
        study: whose folder takes it.
        run: its name.
        files: its commit's.
    """
    try:
        truth, analyses = read_outputs(files)
        wanted = [name for name in detectors_of(study) if not _path(study, run, name).is_file()]
        if wanted:
            border, weights = read_settings(files)["evaluate.border"], weights_of(len(truth))
            if not study.file.is_within_runs:
                _write(_path(study, run, MASK_RCNN), drawn_metrics(truth, analyses, border, weights))
                return images_digest(truth)
            others = [one.found for one in read_detections(files.file(str(paths.ONE_STAGE_DETECTIONS)))]
            found = {MASK_RCNN: [one.found[border] for one in analyses], ONE_STAGE: others}
            for name in wanted:
                _write(_path(study, run, name), drawn_ap(truth, found[name], weights))
    except InputError:
        return UNKNOWN
    return images_digest(truth)


def _path(study: Study, run: str, detector: str) -> Path:
    return study.folder / FOLDER / f"{run}.{detector}.csv"


def _write(path: Path, drawn: Drawn) -> None:
    with atomic_write(path) as temporary:
        pd.DataFrame(drawn).to_csv(temporary, index=False, float_format="%.6g")


def read_draws(study: Study, rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], pd.DataFrame]:
    """The draws of a table's rows; none unless all were measured on the same test images.

    Args:
        study: whose folder has them.
        rows: with `run`, `variant`, `detector`, `seed` and `images`.
    """
    met = {str(row.get("images", UNKNOWN)) for row in rows}
    if len(met) != 1 or UNKNOWN in met:
        return {}
    files = {(row["variant"], row["seed"]): _path(study, row["run"], row["detector"]) for row in rows}
    return {key: pd.read_csv(path) for key, path in files.items() if path.is_file()}


def interval(
    draws: Draws, baseline: str, variant: str, seeds: Sequence[int], metric: str
) -> tuple[float, float] | None:
    """In what 95 % of the draws leave of the mean over seeds of a variant's differences from the baseline.

    In each draw all seeds of both sides meet the same images. None where a run's draws or the metric's are not known.

    Args:
        draws: of all runs.
        baseline: a variant.
        variant: another.
        seeds: that both have.
        metric: its name.
    """
    pairs = [(draws.get((variant, seed)), draws.get((baseline, seed))) for seed in seeds]
    if not pairs or any(one is None or metric not in one for pair in pairs for one in pair):
        return None
    differences = [_column(ours, metric) - _column(theirs, metric) for ours, theirs in pairs]
    means = np.mean(differences, axis=0)
    return None if np.isnan(means[1:]).all() else percentiles(means)


def _column(frame: pd.DataFrame | None, metric: str) -> Float64[np.ndarray, " s"]:
    return np.array([] if frame is None else frame[metric], np.float64)

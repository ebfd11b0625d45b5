"""What a study runs: the files of `studies/`, checked before anything is computed."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from src.core.errors import InputError, brief, invalid
from src.core.params_file import read_params
from src.structures.detector import DETECTORS, MASK_RCNN, ONE_STAGE
from tools import settings

FOLDER: Final = Path("studies")
LONGEST_NAME: Final = 60  # of a run, which becomes a file's name in Git
DEFAULT: Final = "default"  # params.yaml as it is, where a setting is named
OPTIONAL: Final = ("detector",)
KINDS: Final = {
    **dict.fromkeys(("question", "settings", "baseline", "target", "training", "detector"), (str, "a text")),
    **dict.fromkeys(("base", "variants", "seeds"), (Mapping, "names with values")),
    "metrics": (list, "a list of names"),
    "minutes": (int | float, "a number"),
}


@dataclass(frozen=True)
class Run:
    """One training of a study.

    Attributes:
        name: of DVC's experiment.
        variant: what is varied in it.
        seed: its place in the lists of seeds, from 0; runs of one place are paired.
        settings: dotted keys and values over those of the study.
    """

    name: str
    variant: str
    seed: int
    settings: dict[str, Any]


@dataclass(frozen=True)
class StudyFile:
    """A file of `studies/` as it is written.

    Attributes:
        question: that it answers.
        settings: a file of `settings/`; empty for params.yaml as it is.
        base: single settings over those.
        baseline: what the variants are compared with: one of them, or another detector of the same runs.
        variants: settings by name.
        seeds: lists of one length, by the setting that takes them.
        target: the last stage of a run.
        training: the stage whose losses are shown.
        metrics: names of numbers, dotted.
        minutes: that a run takes on two cores.
        detector: whose numbers they are. For the one-stage detector, `baseline` is the two-stage detector that each run
            has as well: no run of its own.
    """

    question: str
    settings: str
    base: dict[str, Any]
    baseline: str
    variants: dict[str, dict[str, Any]]
    seeds: dict[str, list[int]]
    target: str
    training: str
    metrics: list[str]
    minutes: float
    detector: str = MASK_RCNN

    @property
    def is_within_runs(self) -> bool:
        """Whether a run has both sides of the comparison."""
        return self.detector != MASK_RCNN


@dataclass(frozen=True)
class Study:
    """A question and the runs that answer it.

    Attributes:
        name: of the file in `studies/`, with the setting where that is another than the file's.
        source: the file's name.
        file: what stands in it.
        common: dotted keys and values of the settings that all runs have.
        runs: those of the baseline first, each variant's seeds in their order.
    """

    name: str
    source: str
    file: StudyFile
    common: dict[str, Any]
    runs: tuple[Run, ...]

    @property
    def folder(self) -> Path:
        """Where its table, figures and page are written."""
        return FOLDER / self.name

    @property
    def seeds(self) -> int:
        """Runs of each variant."""
        return len(next(iter(self.file.seeds.values())))

    @property
    def is_comparison(self) -> bool:
        """Whether there is something to compare the baseline with; a study of seeds alone has but one variant."""
        return self.file.is_within_runs or len(self.file.variants) > 1

    @property
    def setting(self) -> str:
        """The file of `settings/` that all runs have, or `default`."""
        return self.file.settings or DEFAULT


def read_study(name: str, setting: str = "") -> Study:
    """Reads a study and checks every setting of every run.

    Args:
        name: of a file in `studies/`.
        setting: a file of `settings/`, or `default`, to have in place of the study's own; its name is then the study's
            too, so that results of both stand beside each other.

    Raises:
        InputError: there is no such file; something is missing or unknown; a run's settings would not be valid.
    """
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise InputError(f"{path}: no such file; there are {known or 'none'}")
    file = _checked(path, settings.read(YAML(typ="safe", pure=True), path))
    if setting and setting != (file.settings or DEFAULT):
        file = dataclasses.replace(file, settings="" if setting == DEFAULT else setting)
        name = f"{name}-{setting}"
    common = settings.of_file(file.settings) | file.base
    study = Study(name, path.name, file, common, _runs(name, path, file, common))
    _check_settings(path, study)
    return study


def _checked(path: Path, tree: Mapping[str, Any]) -> StudyFile:
    """What stands in the file, each entry of its kind."""
    expected = StudyFile.__dataclass_fields__
    for key in (*expected, *tree):
        if key not in expected or (key not in tree and key not in OPTIONAL):
            raise invalid(path, f"the entries {', '.join(expected)}", f"{'no' if key in expected else 'also'} '{key}'")
    for key, (kind, words) in KINDS.items():
        if key in tree and not isinstance(tree[key], kind):
            raise invalid(path, f"{words} for '{key}'", brief(tree[key]))
    file = StudyFile(**tree)
    lengths = {len(values) for values in file.seeds.values()} if _is_seeds(file.seeds) else set()
    if len(lengths) != 1 or lengths == {0}:
        raise invalid(path, "lists of whole numbers, all of one length, in 'seeds'", brief(file.seeds))
    if not all(isinstance(one, dict) for one in file.variants.values()):
        raise invalid(path, "settings by the name of each variant in 'variants'", brief(file.variants))
    _check_baseline(path, file)
    if not file.metrics:
        raise invalid(path, "names of metrics in 'metrics'", "none")
    return file


def _check_baseline(path: Path, file: StudyFile) -> None:
    """One of the variants; or, within runs, none of them, and nothing in them may change it."""
    named = ", ".join(map(str, file.variants)) or "none"
    if file.detector not in DETECTORS:
        raise invalid(path, f"one of {', '.join(DETECTORS)} for 'detector'", file.detector)
    if not file.is_within_runs:
        if file.baseline not in file.variants:
            raise invalid(path, f"variants, '{file.baseline}' one of them", named)
        return
    if not file.variants or file.baseline in file.variants:
        raise invalid(path, f"variants, and '{file.baseline}', the other detector of their runs, none of them", named)
    for variant, values in file.variants.items():
        for key in values:
            if not key.startswith(f"{ONE_STAGE}."):
                expected = f"settings of {ONE_STAGE} alone, so that '{file.baseline}' is the same beside every variant"
                raise invalid(path, f"variant '{variant}': {expected}", key)


def _is_seeds(seeds: Mapping[str, Any]) -> bool:
    return all(isinstance(values, list) and all(type(value) is int for value in values) for values in seeds.values())


def _runs(name: str, path: Path, file: StudyFile, common: Mapping[str, Any]) -> tuple[Run, ...]:
    order = sorted(file.variants, key=lambda variant: variant != file.baseline)  # else as they stand
    places = range(len(next(iter(file.seeds.values()))))
    runs = tuple(_run(name, file, common, variant, place) for variant in order for place in places)
    if len({run.name for run in runs}) < len(runs):
        raise InputError(f"{path}: two variants have the same letters in their names and the same settings")
    return runs


def _run(study: str, file: StudyFile, common: Mapping[str, Any], variant: str, place: int) -> Run:
    seeds = {key: values[place] for key, values in file.seeds.items()}
    values = file.variants[variant] | seeds
    words = re.sub(r"[^a-z0-9.]+", "-", f"{study} {variant}".lower()).strip("-.")[:LONGEST_NAME]
    return Run(f"{words}-seed-{place}-{_digest({**common, **values})}", variant, place, values)


def _digest(values: dict[str, Any]) -> str:
    """Six digits of what a run is of: a result of other settings is another run's, whatever the variant is called."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:6]


def _check_settings(path: Path, study: Study) -> None:
    """Has params.yaml's own checks look at each run."""
    tree = settings.read(YAML(typ="safe", pure=True), settings.PARAMS)
    for run in study.runs:
        tried = copy.deepcopy(tree)
        try:
            for key, value in (study.common | run.settings).items():
                settings.put(tried, key, value)
            read_params(tried)
        except InputError as error:
            raise InputError(f"{path}: variant '{run.variant}': {error}") from None


def override(key: str, value: Any) -> str:
    """A setting as `dvc exp run -S` takes it: a word in quotes, so that no sign in it is grammar."""
    if isinstance(value, str):
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"{key}='{quoted}'"
    return f"{key}={json.dumps(value)}"

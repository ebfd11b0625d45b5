"""What a study runs: the files of `studies/`, checked before anything is computed."""

from __future__ import annotations

import copy
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
from tools import settings

FOLDER: Final = Path("studies")
LONGEST_NAME: Final = 60  # of a run, which becomes a file's name in Git
KINDS: Final = {
    **dict.fromkeys(("question", "settings", "baseline", "target", "training"), (str, "a text")),
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
    """A file of `studies/` as it is written."""

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


@dataclass(frozen=True)
class Study:
    """A question and the runs that answer it.

    Attributes:
        name: of the file in `studies/`.
        file: what stands in it.
        common: dotted keys and values of the settings that all runs have.
        runs: those of the baseline first, each variant's seeds in their order.
    """

    name: str
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


def read_study(name: str) -> Study:
    """Reads a study and checks every setting of every run.

    Raises:
        InputError: there is no such file; something is missing or unknown; a run's settings would not be valid.
    """
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise InputError(f"{path}: no such file; there are {known or 'none'}")
    file = _checked(path, settings.read(YAML(typ="safe", pure=True), path))
    common = settings.of_file(file.settings) | file.base
    study = Study(name, file, common, _runs(name, file, common))
    _check_settings(path, study)
    return study


def _checked(path: Path, tree: Mapping[str, Any]) -> StudyFile:
    """What stands in the file, each entry of its kind."""
    expected = StudyFile.__dataclass_fields__
    for key in (*expected, *tree):
        if key not in tree or key not in expected:
            raise invalid(path, f"the entries {', '.join(expected)}", f"{'no' if key in expected else 'also'} '{key}'")
    for key, (kind, words) in KINDS.items():
        if not isinstance(tree[key], kind):
            raise invalid(path, f"{words} for '{key}'", brief(tree[key]))
    file = StudyFile(**tree)
    lengths = {len(values) for values in file.seeds.values()} if _is_seeds(file.seeds) else set()
    if len(lengths) != 1 or lengths == {0}:
        raise invalid(path, "lists of whole numbers, all of one length, in 'seeds'", brief(file.seeds))
    if not all(isinstance(one, dict) for one in file.variants.values()):
        raise invalid(path, "settings by the name of each variant in 'variants'", brief(file.variants))
    if file.baseline not in file.variants or len(file.variants) < 2:
        raise invalid(path, f"two variants or more, '{file.baseline}' one of them", ", ".join(map(str, file.variants)))
    if not file.metrics:
        raise invalid(path, "names of metrics in 'metrics'", "none")
    return file


def _is_seeds(seeds: Mapping[str, Any]) -> bool:
    return all(isinstance(values, list) and all(type(value) is int for value in values) for values in seeds.values())


def _runs(name: str, file: StudyFile, common: Mapping[str, Any]) -> tuple[Run, ...]:
    order = [file.baseline, *(variant for variant in file.variants if variant != file.baseline)]
    places = range(len(next(iter(file.seeds.values()))))
    runs = tuple(_run(name, file, common, variant, place) for variant in order for place in places)
    if len({run.name for run in runs}) < len(runs):
        raise InputError(
            f"{FOLDER / name}.yaml: two variants have the same letters in their names and the same settings"
        )
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

"""Where a run comes from: its commit, the settings that were turned, what DVC knows of its files, packages, cost.

All of it is read when the page is written, from what no stage tracks: Git, dvc.lock and `.cache`. It changes without a
result changing, so it makes no stage run again. dvc.lock has the settings with which each stage last ran, which
params.yaml has not, once it was put back.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from src.core.params_file import leaves
from src.reporting.answers.answer import Answer, Table
from src.reporting.formatting import ABSENT, byte_size, count, duration
from src.reporting.origin import written
from src.reporting.run_results import RunResults

PACKAGES: Final = (
    *(
        "torch",
        "torchvision",
        "timm",
        "lightning-fabric",
        "numpy",
        "scikit-learn",
        "faster-coco-eval",
        "h5py",
        "pillow",
    ),
    *("matplotlib", "dvc"),
)
CODE: Final = ("src/", "stages/")
KEPT: Final = ("data/", "models/")  # folders of files that the table of hashes lists
NONE: Final = "(none)"


def provenance(results: RunResults, measured_on: Mapping[str, Any]) -> Answer:
    """The page's last section.

    Args:
        results: of the run.
        measured_on: of `metrics/provenance.json`.
    """
    lock = read_lock(results.root)
    settings = settings_table(results.root, lock)
    tables = {
        "conditions": _conditions_table(measured_on),
        "cost": cost_table(results.seconds, results.memory),
        "files": files_table(lock),
        "packages": packages_table(),
    }
    if settings is not None:
        tables["settings"] = settings
    return Answer({"commit": _commit(results.root), "settings": _turned(settings)}, tables=tables)


def _commit(root: Path) -> str:
    name = commit(root)
    if name == "unknown":
        return "The commit is not known: Git is not installed here, or this is no repository."
    edited = ", with changes to the code that are in no commit" if is_edited(root) else ""
    return f"The page was written at commit {name}{edited}."


def _turned(settings: Table | None) -> str:
    """How many settings differ, in words."""
    if settings is None:
        return "Which settings differ from the default is not known: dvc.lock, or the commit's params.yaml, is missing."
    if not settings.rows:
        return "All stages ran with the settings of the commit's params.yaml."
    differ = "setting differs" if len(settings.rows) == 1 else "settings differ"
    return f"{count(len(settings.rows))} {differ} from the commit's params.yaml."


def _conditions_table(measured_on: Mapping[str, Any]) -> Table:
    rows = [[key.replace("_", " "), written(str(value), value)] for key, value in measured_on.items()]
    return Table(("", "value"), rows, "What the numbers were measured on.")


def cost_table(seconds: Mapping[str, float], memory: Mapping[str, float]) -> Table:
    """Time and peak of memory of each stage, as far as they are known."""
    rows = [
        [stage.replace("_", " "), duration(time), byte_size(memory[stage]) if stage in memory else ABSENT]
        for stage, time in seconds.items()
    ]
    return Table(
        ("stage", "time", "peak memory"), rows, "What each stage took when it last ran; memory of its largest process."
    )


def commit(root: Path) -> str:
    """The short name of the commit checked out in `root`; `unknown` without Git or outside a repository."""
    return (_git(root, "rev-parse", "--short", "HEAD") or "unknown").strip()


def is_edited(root: Path) -> bool:
    """Whether code or pipeline differ from that commit."""
    return bool(_git(root, "status", "--porcelain", "--", *CODE, "dvc.yaml"))


def read_lock(root: Path) -> dict[str, Any]:
    """The stages of dvc.lock by name; none where there is no such file, as in a run without DVC."""
    path = root / "dvc.lock"
    return dict(_yaml(path.read_text(encoding="utf-8")).get("stages", {})) if path.is_file() else {}


def settings_table(root: Path, lock: Mapping[str, Any]) -> Table | None:
    """The settings with which the stages ran, where they differ from the commit's params.yaml.

    Returns:
        The table, without rows where none differs; None where the commit's are not known.
    """
    committed = _git(root, "show", "HEAD:./params.yaml")
    if committed is None or not lock:
        return None
    before = dict(leaves(_yaml(committed)))
    now = {key: value for name, stage in lock.items() if name != "report" for key, value in _settings(stage)}
    rows = [
        [key, _said(before.get(key, NONE)), _said(value)]
        for key, value in sorted(now.items())
        if value != before.get(key, NONE)
    ]
    return Table(("setting", "default", "this run"), rows, f"Settings that differ from params.yaml of {commit(root)}.")


def files_table(lock: Mapping[str, Any]) -> Table:
    """Hashes of what came from outside, and of the data and models that stages made."""
    made = {out["path"]: (name, out) for name, stage in lock.items() for out in stage.get("outs", ())}
    given = {
        dep["path"]: ("from outside", dep)
        for stage in lock.values()
        for dep in stage.get("deps", ())
        if dep["path"] not in made and not dep["path"].startswith((*CODE, "metrics", "plots"))
    }
    listed = given | {path: entry for path, entry in made.items() if path.startswith(KEPT)}
    rows = [
        [path, source.replace("_", " "), str(entry.get("md5", "")), byte_size(entry.get("size", 0))]
        for path, (source, entry) in listed.items()
    ]
    return Table(("file", "made by", "md5", "size"), rows, "Data and models as dvc.lock has them.")


def packages_table() -> Table:
    """Versions that are installed where the page was written."""
    versions = {name: _version(name) for name in PACKAGES}
    rows = [[name, found] for name, found in versions.items() if found]
    return Table(("package", "version"), rows, "Packages with which the page was written.")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _settings(stage: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values that DVC noted for a stage, whole sections among them."""
    for entries in stage.get("params", {}).values():
        for key, value in entries.items():
            yield from leaves({key: value})


def _said(value: object) -> str:
    return str(value) if value not in ("", None) else "''"


def _yaml(text: str) -> dict[str, Any]:
    tree = YAML(typ="safe", pure=True).load(text)
    return dict(tree)


def _git(root: Path, *arguments: str) -> str | None:
    """What Git says; None where it is not installed or refuses."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)  # noqa: S603  fixed words
    return done.stdout if done.returncode == 0 else None

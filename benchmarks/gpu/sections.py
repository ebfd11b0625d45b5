"""The script's sections in their order: one that fails or lacks a package is noted, and the next one goes on."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.setting import Setting
from benchmarks.gpu.timing import free_memory
from src.core.errors import one_line

LONGEST = 300  # characters of an error's line
OURS = ("benchmarks", "src", "stages")  # a module of these that is missing is a mistake, not a missing package


@dataclass(frozen=True)
class Section:
    """One part of the script.

    Attributes:
        name: its key in gpu.json.
        title: its heading on the page.
        module: has `run(setting)`, which yields entries as they are known. It is imported when its turn comes, so that
            a package that it lacks takes nothing else along.
    """

    name: str
    title: str
    module: str


SECTIONS = (  # the most important first: a run that is killed leaves what it has
    Section("parity", "Parity", "benchmarks.gpu.parity"),
    Section("limits", "The card's limits", "benchmarks.gpu.limits"),
    Section("roi_align", "RoIAlign", "benchmarks.gpu.roi_align"),
    Section("pyramid", "The sparse pyramid", "benchmarks.gpu.pyramid"),
    Section("training", "Joint training", "benchmarks.gpu.training"),
    Section("inference", "Inference", "benchmarks.gpu.inference"),
    Section("pipeline", "Every stage", "benchmarks.gpu.pipeline"),
)


def run_sections(sections: Sequence[Section], setting: Setting, note: Callable[[str, Mapping[str, Any]], None]) -> None:
    """Runs sections in turn.

    Args:
        sections: in their order.
        setting: what they are told.
        note: gets a section's name and its record whenever that has changed: `state` (running, done, failed or
            skipped), `line` (why it failed or was skipped), `seconds`, `entries`.
    """
    for section in sections:
        for record in records(section, setting):
            note(section.name, record)
        free_memory()


def records(section: Section, setting: Setting) -> Iterator[dict[str, Any]]:
    """A section's record: as it grows, and at its end."""
    record: dict[str, Any] = {"state": "running", "line": "", "seconds": 0.0, "entries": []}
    if setting.seconds_left <= 0:
        yield record | {"state": "skipped", "line": "the time budget was spent"}
        return
    start = time.monotonic()
    state, line = "done", ""
    try:
        for entry in importlib.import_module(section.module).run(setting):
            record["entries"].append(entry)
            yield record | {"seconds": time.monotonic() - start}
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        missing = package not in OURS
        state = "skipped" if missing else "failed"
        line = f"the package {package} is not installed" if missing else one_line(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other sections are worth having
        state, line = "failed", f"{type(error).__name__}: {one_line(error)}"[:LONGEST]
    yield record | {"state": state, "line": line, "seconds": time.monotonic() - start}

"""Stage `report`: the page with all 18 tasks."""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("report: stages run from the project's root as: python -m stages.report")

import sys
import tempfile
from pathlib import Path

from src.core import paths
from src.core.neighbors import main_workspace
from src.core.params import Params
from src.core.runtime import cache_dir
from src.core.stage import MEMORY, SECONDS, run
from src.reporting.loss_curves import draw_charts
from src.reporting.page import build_page
from src.reporting.run_results import RunResults
from src.reporting.summary import headline, read_memory, read_seconds, read_seconds_an_image


def main(params: Params) -> None:
    """Reads what the other stages wrote, writes the page, and says where it is."""
    with tempfile.TemporaryDirectory() as folder:
        # Of stages that this run did not need, where it is a temporary one, the main workspace's.
        seconds = read_seconds(cache_dir() / SECONDS.name) | read_seconds(SECONDS)
        memory = read_memory(cache_dir() / MEMORY.name) | read_memory(MEMORY)
        each = read_seconds_an_image(cache_dir() / SECONDS.name) | read_seconds_an_image(SECONDS)
        results = RunResults(Path(), params, Path(folder), seconds, each, memory)
        numbers, measured_on = results.value("summary"), results.value("provenance")
        draw_charts(results, Path(folder))
        build_page(results, numbers, measured_on, paths.REPORT)
    sys.stdout.write(f"\n{headline(numbers, results.seconds)}\n\n  {place(paths.REPORT)}\n\n")


def place(report: Path) -> str:
    """Where the page is, in words; DVC deletes the folder of a temporary or queued run at once."""
    if main_workspace() is None:
        return str(report.resolve())
    return f"{report} of this run: dvc exp apply <its name>, or make compare B=<its name>"


if __name__ == "__main__":
    run("report", main)

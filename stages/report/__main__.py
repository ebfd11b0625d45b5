"""Stage `report`: the page with all 18 tasks."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from src.core import paths
from src.core.params import Params
from src.core.runtime import cache_dir
from src.core.stage import run
from src.reporting.loss_curves import draw_charts
from src.reporting.page import build_page
from src.reporting.run_results import RunResults
from src.reporting.summary import headline, read_seconds, read_seconds_an_image


def main(params: Params) -> None:
    """Reads what the other stages wrote, writes the page, and says where it is."""
    with tempfile.TemporaryDirectory() as folder:
        times = cache_dir() / "seconds"
        results = RunResults(Path(), params, Path(folder), read_seconds(times), read_seconds_an_image(times))
        numbers, measured_on = results.value("summary"), results.value("provenance")
        draw_charts(results, Path(folder))
        build_page(results, numbers, measured_on, paths.REPORT)
    sys.stdout.write(f"\n{headline(numbers, results.seconds)}\n\n  {paths.REPORT.resolve()}\n\n")


if __name__ == "__main__":
    run("report", main)

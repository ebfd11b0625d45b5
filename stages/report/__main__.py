"""Stage `report`: the page with all 18 tasks, and the headline numbers (all tasks)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from src.core.files import write_json
from src.core.params import Params
from src.reporting.loss_curves import draw_charts
from src.reporting.run_results import RunResults
from src.reporting.page import build_page
from src.reporting.summary import headline, read_seconds, summarize
from src.core.runtime import cache_dir
from src.core.stage import run

PAGE = Path("report/index.html")
SUMMARY = Path("metrics/summary.json")


def work(params: Params) -> None:
    """Reads what the other stages wrote, writes page and summary, and says where the page is."""
    with tempfile.TemporaryDirectory() as folder:
        facts = RunResults(Path(), params, Path(folder), read_seconds(cache_dir() / "seconds"))
        summary = summarize(facts)
        draw_charts(facts, Path(folder))
        build_page(facts, summary, PAGE)
    write_json(SUMMARY, summary)
    sys.stdout.write(f"\n{headline(summary)}\n\n  {PAGE.resolve()}\n\n")


if __name__ == "__main__":
    run("report", work)

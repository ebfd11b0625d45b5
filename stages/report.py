"""Stage `report`: the page with all 18 tasks, and the headline numbers (all tasks)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from src.files import write_json
from src.params import Params
from src.reporting.charts import draw_charts
from src.reporting.facts import Facts
from src.reporting.page import build_page
from src.reporting.summary import headline, read_seconds, summarise
from stages.common import run, scratch

PAGE = Path("report/index.html")
SUMMARY = Path("metrics/summary.json")


def work(params: Params) -> None:
    """Reads what the other stages wrote, writes page and summary, and says where the page is."""
    with tempfile.TemporaryDirectory() as folder:
        facts = Facts(Path(), params, Path(folder), read_seconds(scratch() / "seconds"))
        summary = summarise(facts)
        draw_charts(facts, Path(folder))
        build_page(facts, summary, PAGE)
    write_json(SUMMARY, summary)
    sys.stdout.write(f"\n{headline(summary)}\n\n  {PAGE.resolve()}\n\n")


if __name__ == "__main__":
    run("report", work)

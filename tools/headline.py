"""Prints the headline numbers and where the report lies, for `make report` when nothing was out of date."""

from __future__ import annotations

from pathlib import Path

from src.core.files import read_json
from src.reporting.summary import headline


def main() -> None:
    """Prints them as the stage `report` does."""
    print(f"\n{headline(read_json(Path('metrics/summary.json')))}\n\n  {Path('report/index.html').resolve()}\n")


if __name__ == "__main__":
    main()

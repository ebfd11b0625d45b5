"""Prints the headline numbers and where the report lies, for `make report` when nothing was out of date."""

from __future__ import annotations

from src.core import paths
from src.core.files import read_json
from src.core.runtime import cache_dir
from src.reporting.summary import headline, read_seconds


def main() -> None:
    """Prints them as the stage `report` does."""
    numbers = headline(read_json(paths.SUMMARY), read_seconds(cache_dir() / "seconds"))
    print(f"\n{numbers}\n\n  {paths.REPORT.resolve()}\n")


if __name__ == "__main__":
    main()

"""Growth's page: what each further image costs, where not every stage ran at every N."""

from __future__ import annotations

from typing import Any

from benchmarks.scaling import further


def entry(images: int, **seconds: float) -> dict[str, Any]:
    return {"images": images, "stages": {name: {"seconds": value} for name, value in seconds.items()}}


def test_a_further_image_is_counted_from_the_last_row_in_which_the_stage_ran() -> None:
    entries = [entry(100, ingest=5, features=60), entry(400, ingest=8), entry(1600, ingest=14, features=960)]
    assert [further(entries, place, "ingest") for place in range(3)] == ["50.0", "10.0", "5.0"]
    assert [further(entries, place, "features") for place in range(3)] == ["600.0", "", "600.0"]

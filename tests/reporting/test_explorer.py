"""What the explorer's template gets: json that no name breaks out of, words, and complaints about broken files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.core.errors import InputError
from src.evaluation.errors import ErrorCounts
from src.evaluation.funnel import FOUND, STEPS
from src.figures.classes import color_of
from src.reporting.explorer import explorer, in_script
from src.structures.classes import Classes
from tests.reporting.explorer_files import scene, write_explorer
from tests.reporting.runs import write_run

HOSTILE = ("</script><script>alert(1)</script>", "<!--<script", "\"'&\\", "\u732b")


def test_json_comes_back_and_ends_no_script() -> None:
    text = in_script({"names": HOSTILE, "broken": "\udce9"})
    assert "<" not in text
    assert json.loads(text) == {"names": list(HOSTILE), "broken": "\udce9"}


def test_every_step_and_kind_has_its_name_and_meaning(tmp_path: Path) -> None:
    data = json.loads(explorer(write_run(tmp_path))["data"])
    assert [one["key"] for one in data["fates"]] == [FOUND, *STEPS]
    assert {one["key"] for one in data["kinds"]} == set(ErrorCounts().as_metrics()) - {"missed"}
    assert all(one["name"] and one["meaning"] for one in [*data["fates"], *data["kinds"]])


def test_classes_have_the_colors_of_the_figures(tmp_path: Path) -> None:
    results = write_run(tmp_path)
    write_explorer(tmp_path / "plots", classes=Classes(HOSTILE))
    classes = json.loads(explorer(results)["data"])["classes"]
    assert classes == [{"name": name, "color": color_of(label)} for label, name in enumerate(HOSTILE, 1)]


@pytest.mark.parametrize("name", ["evaluate/explorer.json", "own_pictures.json"])
@pytest.mark.parametrize("content", [None, "", "[]", '{"pictures": []}', "\x00"])
def test_a_missing_or_broken_file_is_named(name: str, content: str | None, tmp_path: Path) -> None:
    results = write_run(tmp_path)
    path = tmp_path / "plots" / name
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(InputError, match=rf"plots/{name}: (no such file|expected a file that)") as caught:
        explorer(results)
    assert "\n" not in str(caught.value)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    results = write_run(tmp_path)
    assert explorer(results)["words"]["left_out"] == ""
    write_explorer(tmp_path / "plots", *scene(5, 9), room=9000)
    words = explorer(results)["words"]["left_out"]
    assert "of 9 test images fit this page. The numbers here count those alone." in words

"""The report on sets of other classes: its words and tables have their names and number, and none of the course's."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from src.reporting.answers.detection import MISTAKES, MOST_COLUMNS, task_15
from src.reporting.answers.results import overall
from src.reporting.formatting import few
from src.reporting.page import build_page
from tests.reporting.runs import metrics_of, write_run

COURSE = re.compile(r"\b(vehicles?|animals?|three classes|3 classes)\b")


def names_of(count: int) -> list[str]:
    return [f"kind <{number}> & more" for number in range(1, count + 1)]


def text_of(tmp_path: Path, names: list[str]) -> str:
    """The page's words, without tags and pictures."""
    path = tmp_path / "report/index.html"
    results = write_run(tmp_path, metrics_of(names))
    build_page(results, results.value("summary"), results.value("provenance"), path)
    page = re.sub(r"data:image/[^\"]*", "", path.read_text(encoding="utf-8"))
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


@pytest.mark.parametrize("count", [1, 12, 40])
def test_the_page_speaks_of_the_set_s_classes(count: int, tmp_path: Path) -> None:
    names = names_of(count)
    text = text_of(tmp_path, names)
    assert COURSE.findall(text) == []
    assert all(name in text for name in names)
    assert f"of {count} {'class' if count == 1 else 'classes'} are marked" in text
    assert f"{count + 1} class scores, one of them the background" in text
    assert ("Drawn are the 5 of 12 classes with the most objects." in text) == (count == 12)


def test_a_confusion_table_of_many_classes_has_the_commonest_mistakes(tmp_path: Path) -> None:
    few_names, names = names_of(MOST_COLUMNS - 1), names_of(40)
    table = task_15(write_run(tmp_path, metrics_of(few_names))).tables["confusion"]
    assert len(table.head) == len(table.rows[0]) == MOST_COLUMNS + 1
    content = metrics_of(names)
    content["evaluate"]["classifier"]["confusion"][7][3] = 50
    table = task_15(write_run(tmp_path, content)).tables["confusion"]
    assert table.rows[0] == [f"true {names[6]}", f"called {names[2]}", "50"]
    assert len(table.rows) == MISTAKES
    assert "20 of 42" in table.caption


def test_one_class_is_neither_best_nor_worst(tmp_path: Path) -> None:
    assert overall(write_run(tmp_path, metrics_of(["can"]))).words["classes"] == ""


def test_many_names_are_listed_in_part() -> None:
    assert few(list("abcdef")) == "a, b, c, d, e and f"
    assert few(list("abcdefgh")) == "a, b, c, d, e and 3 more"

"""The page in a real browser: the index that follows, links into the metrics, tables, figures, paper, and axe-core."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.reporting.page import build_page
from src.reporting.tasks import TASKS
from tests.reporting.conftest import LAPTOP, PHONE, skip_without_browser
from tests.reporting.runs import write_run

skip_without_browser()

OPEN = Callable[..., Any]
COPY = {"permissions": ["clipboard-read", "clipboard-write"]}
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    results = write_run(root)
    build_page(results, results.value("summary"), results.value("provenance"), root / "index.html")
    return root / "index.html"


def current(page: Any) -> str | None:
    """The link of the index that is marked as the reader's place."""
    marked = page.locator("nav [aria-current=location]")
    return marked.get_attribute("href") if marked.count() else None


@pytest.mark.parametrize(
    ("scheme", "viewport", "medium"),
    [("light", LAPTOP, "screen"), ("dark", LAPTOP, "screen"), ("light", PHONE, "screen"), ("light", LAPTOP, "print")],
)
def test_axe_finds_no_fault(scheme: str, viewport: dict[str, int], medium: str, open_page: OPEN, report: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the package axe-playwright-python")
    page = open_page(report, "", viewport, color_scheme=scheme)
    page.emulate_media(media=medium)
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    answer = axe.Axe().run(page, options={"runOnly": list(RULES)}).response
    assert len(answer["passes"]) > 20  # it did look
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in answer["violations"]] == []


def test_axe_finds_a_fault_that_was_made(open_page: OPEN, report: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the package axe-playwright-python")
    page = open_page(report)
    page.evaluate("document.querySelector('figure img').removeAttribute('alt')")
    answer = axe.Axe().run(page, options={"runOnly": list(RULES)}).response
    assert [rule["id"] for rule in answer["violations"]] == ["image-alt"]


@pytest.mark.parametrize("viewport", [LAPTOP, PHONE])
def test_every_task_is_reached_from_the_index(viewport: dict[str, int], open_page: OPEN, report: Path) -> None:
    page = open_page(report, "", viewport)
    for number in TASKS:
        if viewport == PHONE:
            page.locator("nav summary").click()
        page.locator(f"nav a[href='#task-{number}']").click()
        page.wait_for_function(
            """(number) => {
              const place = document.getElementById(`title-${number}`).getBoundingClientRect();
              return place.top > -1 && place.bottom < innerHeight && place.height > 0;
            }""",
            arg=number,
        )
        assert page.locator("nav details").evaluate("(fold) => fold.open") == (viewport == LAPTOP)


def test_the_index_marks_where_the_reader_is(open_page: OPEN, report: Path) -> None:
    page = open_page(report)
    for number in (1, 9, 13):
        page.evaluate(f"document.getElementById('task-{number}').scrollIntoView()")
        page.wait_for_function(
            f"document.querySelector('nav [aria-current=location]')?.getAttribute('href') === '#task-{number}'"
        )
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    last = page.locator("nav a").last.get_attribute("href")
    page.wait_for_function(f"document.querySelector('nav [aria-current=location]')?.getAttribute('href') === '{last}'")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function("!document.querySelector('nav [aria-current=location]')")
    assert current(page) is None


def test_a_number_leads_into_the_folded_file(open_page: OPEN, report: Path) -> None:
    page = open_page(report)
    link = page.locator("main .table a.from").first
    anchor = str(link.get_attribute("href"))[1:]
    entry = page.locator(f"[id='{anchor}']")
    assert not entry.is_visible()
    link.click()
    entry.wait_for(state="visible")
    assert link.get_attribute("title") == f"metrics/{anchor.partition('.')[0]}.json: {anchor.partition('.')[2]}"
    assert page.url.endswith(f"#{anchor}")


def test_a_page_opened_at_a_folded_number_shows_it(open_page: OPEN, report: Path) -> None:
    page = open_page(report, "#summary.box_ap50")
    page.locator("[id='summary.box_ap50']").wait_for(state="visible")


def test_tables_are_copied_as_csv(open_page: OPEN, report: Path) -> None:
    page = open_page(report, "", None, **COPY)
    page.evaluate("document.querySelectorAll('main details').forEach((fold) => { fold.open = true; })")
    tables = page.locator("main .table")
    assert tables.count() > 10
    for number in range(tables.count()):
        table = tables.nth(number)
        table.get_by_role("button", name="Copy as csv").click()
        table.locator(".said", has_text="copied").wait_for()
        copied = list(csv.reader(io.StringIO(page.evaluate("navigator.clipboard.readText()"))))
        shown = table.locator("table").evaluate("(t) => [...t.rows].map((r) => [...r.cells].map((c) => c.textContent))")
        assert copied == [[cell.strip().replace("\u202f", "").replace("\u2212", "-") for cell in row] for row in shown]


def test_arrows_go_from_number_to_number(open_page: OPEN, report: Path) -> None:
    """A table is one stop of the Tab key, however many numbers it has."""
    page = open_page(report)
    table = page.locator("main table:has(a.from ~ a.from), main table:has(tr:nth-child(2) a.from)").first
    links = table.locator("a.from")
    assert links.evaluate_all("(all) => all.filter((one) => one.tabIndex === 0).length") == 1
    links.first.focus()
    for key, place in (("ArrowLeft", 0), ("ArrowRight", 1), ("ArrowDown", 2), ("ArrowUp", 1)):
        page.keyboard.press(key)
        assert links.evaluate_all("(all) => all.indexOf(document.activeElement)") == place
        assert links.evaluate_all("(all) => all.findIndex((one) => one.tabIndex === 0)") == place


def test_figures_enlarge_and_give_the_focus_back(open_page: OPEN, report: Path) -> None:
    page = open_page(report)
    figure = page.locator("main figure").nth(2)
    caption = figure.locator("figcaption").inner_text()
    button = figure.get_by_role("button", name="Enlarge")
    dialog = page.locator("dialog.large")
    button.focus()
    page.keyboard.press("Enter")
    assert dialog.is_visible()
    assert dialog.get_attribute("aria-label") == caption
    assert dialog.locator("img").get_attribute("src") == figure.locator("img").get_attribute("src")
    assert dialog.locator("img").get_attribute("alt") == figure.locator("img").get_attribute("alt")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert button.evaluate("(one) => one === document.activeElement")
    figure.locator("img").click()
    assert dialog.is_visible()
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


def test_figures_keep_their_place_before_they_are_decoded(open_page: OPEN, report: Path) -> None:
    """The page does not jump as lazy images come in: one that is not laid out has its width all the same."""
    page = open_page(report)
    images = page.locator("main figure img")
    known = images.evaluate_all(
        """(all) => all.map((one) => {
          one.closest('figure').style.display = 'none';
          return [getComputedStyle(one).width, `${one.getAttribute('width')}px`];
        })"""
    )
    assert known
    assert all(width == said for width, said in known)


def test_paper_has_what_the_screen_folds_but_not_the_files(open_page: OPEN, report: Path) -> None:
    page = open_page(report)
    folds = "main details:not(.listing)"
    page.evaluate("document.querySelectorAll('main details').forEach((fold) => { fold.open = false; })")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(f"{folds}:not([open])").count() == 0
    assert page.locator("main details.listing[open]").count() == 0
    page.emulate_media(media="print")
    for hidden in ("nav", "#explorer", ".tools"):
        assert not page.locator(hidden).first.is_visible()
    for number in TASKS:
        assert page.locator(f"#title-{number}").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("main details[open]").count() == 0


def test_headings_stay_with_what_follows_on_paper(open_page: OPEN, report: Path) -> None:
    page = open_page(report)
    page.emulate_media(media="print")
    breaks = page.locator("main h2, main h3, main p.caption").evaluate_all(
        "(all) => all.map((one) => getComputedStyle(one).breakAfter)"
    )
    assert set(breaks) == {"avoid"}
    inside = page.locator("main figure, main tr").evaluate_all(
        "(all) => all.map((one) => getComputedStyle(one).breakInside)"
    )
    assert set(inside) == {"avoid"}

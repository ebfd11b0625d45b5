"""A real browser for the tests of the page: Debian's Chromium by its path, driven by Playwright."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
LAPTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


def chromium() -> str | None:
    """Its path: the variable CHROMIUM, or what the shell finds."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def skip_without_browser() -> None:
    """For the head of a module of such tests: one line in place of one a test."""
    pytest.importorskip("playwright", reason="tests of the page in a browser need the package playwright")
    if chromium() is None:
        reason = "tests of the page in a browser need Chromium: apt install chromium, or CHROMIUM=<its path>"
        pytest.skip(reason, allow_module_level=True)


@pytest.fixture(scope="module")  # not longer: as long as it lives, no other test can run an event loop
def browser() -> Iterator[Any]:
    """The browser; for modules that begin with `skip_without_browser`."""
    driver = importlib.import_module("playwright.sync_api")
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a file, at a fragment if one is given; afterwards no page has complained or asked for anything else."""
    contexts, faults = [], []

    def opened(file: Path, fragment: str = "", viewport: dict[str, int] | None = None, **options: Any) -> Any:
        contexts.append(browser.new_context(viewport=viewport or LAPTOP, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        own = file.resolve().as_uri()
        page.on("request", lambda request: request.url.startswith((own, "data:")) or faults.append(request.url))
        page.goto(f"{own}{fragment}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []

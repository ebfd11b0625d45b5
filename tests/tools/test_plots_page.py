"""The page that DVC's plots fill: whole without a network. `tests/pipeline/test_what_next.py` fills it for real."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from dvc_render.html import HTML

from tools import plots_page


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What set-up writes, in a folder that DVC takes for a project."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["dvc", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.setattr(plots_page, "PAGE", tmp_path / ".dvc" / "plots.html")
    plots_page.main()
    assert "html_template = plots.html" in (tmp_path / ".dvc/config.local").read_text()
    return plots_page.PAGE.read_text(encoding="utf-8")


def test_the_page_loads_nothing_and_has_vega_inside(template: str) -> None:
    whole = HTML(template).with_element("<div id='plot'></div>").embed()
    page, scripts = re.subn(r"<script>.*?</script>", "", whole, flags=re.DOTALL)
    assert scripts == 1
    assert not re.search(r"<(?:script|link|img|iframe)", page)
    assert not re.search(r"\bimport\s*\(|@import|importScripts|cdn\.|jsdelivr|unpkg", whole)
    assert "window.vegaEmbed" in whole
    assert "<div id='plot'></div>" in page
    assert "{plot_divs}" not in page

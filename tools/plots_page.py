"""Writes the page that `dvc plots show` and `dvc plots diff` fill, with Vega inside: they then need no network.

DVC's own page loads Vega from a content network and stays blank without one. The wheel `vl-convert-python` carries
the same libraries; this puts them into `.dvc/plots.html` and names that file in `.dvc/config.local`. Neither is in
Git, so before set-up DVC falls back on its own page. `make` runs it at set-up: `python -m tools.plots_page`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import vl_convert

from src.core.files import write_text

PAGE = Path(__file__).resolve().parent.parent / ".dvc" / "plots.html"
VEGA_LITE = "5.21"  # DVC's plots are written in the schema of Vega-Lite 5

# DVC replaces {plot_divs} and {refresh_tag}; without its {scripts} nothing is fetched.
TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{refresh_tag}
<title>Plots</title>
<script>%s</script>
<style>
body { font-family: sans-serif; margin: 2em; }
table { border-spacing: 1em; }
img { max-width: 45vw; height: auto; }
div { white-space: normal !important; }  /* DVC lays the pictures of all runs in one line, off the page's edge */
</style>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def main() -> None:
    """Writes the page, and has DVC use it."""
    bundle = vl_convert.javascript_bundle(None, vl_version=VEGA_LITE)  # type: ignore[arg-type]  # its stub wants a text
    write_text(PAGE, TEMPLATE.replace("%s", bundle.replace("</script", "<\\/script"), 1))
    setting = ["config", "--local", "plots.html_template", PAGE.name]
    subprocess.run([sys.executable, "-m", "dvc", *setting], cwd=PAGE.parent, check=True)  # noqa: S603  no input in it


if __name__ == "__main__":
    main()

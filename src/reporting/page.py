"""The report as one HTML file: no network, every figure inside it as base64, and scripts that it can do without.

Prose stands in `templates/` (a file per part), its numbers and conditions come from `answers/`. Names of files and
classes are data: jinja2 escapes them.
"""

from __future__ import annotations

import base64
import functools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from src.core.errors import InputError, invalid
from src.core.files import write_text
from src.reporting import summary as headline
from src.reporting.answers import part_a, part_b, part_c
from src.reporting.answers.answer import Answer
from src.reporting.answers.results import overall
from src.reporting.answers.studies import seed_spreads
from src.reporting.explorer import explorer
from src.reporting.origin import Origin, Text
from src.reporting.provenance import provenance
from src.reporting.run_results import RunResults
from src.reporting.tasks import PARTS, TASKS

TEMPLATES: Final = Path(__file__).parent / "templates"
PNG: Final = b"\x89PNG\r\n\x1a\n"
ATTRIBUTION: Final = {
    "emoji": "The scenes are composed from Twemoji graphics, copyright Twitter, Inc and other contributors, licensed "
    "under CC BY 4.0.",
}

ANSWERS: Final[dict[int, Callable[[RunResults], Answer]]] = {
    number: getattr(module, f"task_{number}")
    for module, numbers in ((part_a, range(1, 8)), (part_b, range(8, 14)), (part_c, range(14, 19)))
    for number in numbers
}


@dataclass(frozen=True)
class Inlined:
    """A picture as a data URL, with its size in pixels, so that the page does not jump while it loads."""

    source: str
    width: int
    height: int


def build_page(results: RunResults, numbers: dict[str, Any], measured_on: dict[str, Any], path: Path) -> None:
    """Writes the report.

    Args:
        results: of the run; its charts are drawn already.
        numbers: of `metrics/summary.json`.
        measured_on: of `metrics/provenance.json`.
        path: HTML file to write.

    Raises:
        InputError: a fact or a figure is missing.
    """
    template = environment().get_template("page.html.j2")
    page = template.render(
        parts=PARTS,
        tasks=TASKS,
        answers={number: answer(results) for number, answer in ANSWERS.items()},
        results=overall(results),
        explorer=explorer(results),
        summary=_head(results, numbers, measured_on),
        provenance=provenance(results, measured_on),
        listings=results.listings(),
    )
    write_text(path, page)


@functools.cache
def environment() -> Environment:
    """jinja2 with escaping on, and an error for every gap that no answer fills."""
    loader = FileSystemLoader(TEMPLATES, encoding="utf-8")
    result = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        finalize=link_numbers,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    result.globals["inline"] = inline
    return result


def link_numbers(value: object) -> object:
    """What a template's gap is filled with: numbers of a metrics file become links to the page's listing of it."""
    if not isinstance(value, Text):
        return value
    return Markup().join(escape(part) if origin is None else _link(part, origin) for part, origin in value.pieces())


def _link(text: str, origin: Origin) -> Markup:
    return Markup('<a class="from" href="#{}" title="{}">{}</a>').format(origin.anchor, origin, text)


def inline(path: Path) -> Inlined:
    """A PNG as a data URL.

    Raises:
        InputError: there is no such file, or it is no PNG.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    if not content.startswith(PNG) or len(content) < 24:
        raise invalid(path, "a PNG", f"{len(content)} bytes of something else")
    width, height = struct.unpack(">II", content[16:24])  # IHDR comes first
    return Inlined(f"data:image/png;base64,{base64.b64encode(content).decode()}", width, height)


def _head(results: RunResults, numbers: dict[str, Any], measured_on: dict[str, Any]) -> dict[str, Any]:
    """What stands above the answers, and at the foot."""
    return {
        "lead": headline.lead(measured_on),
        "banner": headline.banner(results.params.report.settings, results.params.evaluate.split),
        "tiles": headline.tiles(numbers, results.seconds, seed_spreads(results)),
        "attribution": ATTRIBUTION.get(measured_on["source"], ""),
    }

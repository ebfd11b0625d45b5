"""The page's explorer: what `evaluate` and `predict` wrote of each picture, with the names and colors a reader sees.

The page carries it as json inside a script element, where `<` would end it: it is written as an escape.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from src.core import paths
from src.core.errors import invalid
from src.core.files import read_json
from src.figures.classes import color_of
from src.reporting.answers.detection import KINDS, STEPS
from src.reporting.formatting import count, plural
from src.reporting.run_results import RunResults

# Short, for buttons; their meanings are those of task 15's tables.
FATE_NAMES: Final = {
    "found": "found",
    "no_anchor": "no anchor",
    "no_proposal": "no proposal",
    "background": "called background",
    "other_class": "called another class",
    "box": "box regressor",
    "border": "border rule",
    "suppressed": "NMS",
    "score": "score",
    "mask": "mask",
}
KIND_NAMES: Final = {
    "correct": "right",
    "duplicate": "duplicate",
    "classification": "wrong class",
    "localization": "wrong place",
    "both": "wrong class and place",
    "background": "nothing there",
    "ignored": "in a crowd",
}


def explorer(results: RunResults) -> dict[str, Any]:
    """What the template needs: `data` for the script, `words` for the reader.

    Raises:
        InputError: a file is missing or of another making.
    """
    tested = _read(results, paths.EXPLORER, "classes", "threshold", "explaining")
    own = _read(results, paths.OWN_EXPLORER)
    split = results.params.evaluate.split
    meanings = {"found": "a detection of its class takes it, box and mask fit", **STEPS}
    kinds = {**KINDS, "ignored": "in a region of many objects, where it counts neither way"}
    data = {
        "classes": [{"name": name, "color": color_of(label)} for label, name in enumerate(tested["classes"], 1)],
        "threshold": tested["threshold"],
        "explaining": tested["explaining"],
        "fates": [{"key": key, "name": name, "meaning": meanings[key]} for key, name in FATE_NAMES.items()],
        "kinds": [{"key": key, "name": name, "meaning": kinds[key]} for key, name in KIND_NAMES.items()],
        "sets": {"image": tested["pictures"], "picture": own["pictures"]},
    }
    return {"data": in_script(data), "words": {"split": split, "left_out": _left_out(tested, own, split)}}


def in_script(tree: Any) -> Markup:
    """Json that no text in it can break out of."""
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704  # the one character that means something there


def _left_out(tested: dict[str, Any], own: dict[str, Any], split: str) -> str:
    """What does not fit the page."""
    parts = []
    for tree, name in ((tested, f"{split} image"), (own, "picture")):
        if tree["left_out"]:
            shown = len(tree["pictures"])
            parts.append(f"{count(shown)} of {plural(shown + tree['left_out'], name)} fit this page")
    return f" {'; '.join(parts)}. The numbers here count those alone." if parts else ""


def _read(results: RunResults, name: Path, *keys: str) -> dict[str, Any]:
    path = results.plot(name.relative_to("plots").as_posix())
    try:
        tree = read_json(path)
        return {key: tree[key] for key in ("pictures", "left_out", *keys)}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise invalid(path, "a file that `evaluate` or `predict` wrote", repr(error)) from None

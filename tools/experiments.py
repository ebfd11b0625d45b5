"""Prints all runs: workspace, HEAD and experiments; in which settings each differs from HEAD; the headline numbers.

`make experiments`, or `python -m tools.experiments`. Experiments of earlier commits are among them, for which
`dvc exp show` wants -A, and no line is longer than 160 characters.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

from src.core.errors import one_line

WIDTH: Final = 160
LONGEST_NAME: Final = 26
NUMBERS: Final = {  # headline numbers, as two lines of a column's head
    "box_ap50": ("box", "AP50"),
    "box_ap": ("box", "AP"),
    "mask_ap50": ("mask", "AP50"),
    "mask_ap": ("mask", "AP"),
    "mask_iou": ("mask", "IoU"),
    "rpn_accuracy": ("RPN", "acc."),
    "classifier_accuracy": ("class", "acc."),
    "proposal_recall": ("prop.", "recall"),
}
COLUMN: Final = 7  # characters of a number and the space before it
NOTES: Final = {
    "Experiment",
    "rev",
    "typ",
    "Created",
    "parent",
    "State",
    "Executor",
}  # of DVC, beside numbers and params
NO_RUN: Final = "no experiments yet; the first one: dvc exp run -S joint.loss_weights.mask=4"


def main() -> int:
    """Prints the table; gives the exit status."""
    try:
        rows = shown()
    except Exception as error:  # noqa: BLE001 - whatever DVC raises is said in a line
        print(f"experiments: {one_line(error)}", file=sys.stderr)
        return 1
    print("\n".join(table(rows)))
    return 0


def shown() -> list[dict[str, Any]]:
    """DVC's own rows: the workspace, HEAD, and each commit that has experiments, with those."""
    import dvc.api  # noqa: PLC0415 - takes a second

    return list(dvc.api.exp_show(revs=["HEAD", *baselines()]))


def baselines() -> list[str]:
    """Commits that experiments started from; DVC names an experiment refs/exps/<commit, after two digits>/<name>."""
    command = ["git", "for-each-ref", "--format=%(refname)", "refs/exps/"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()  # noqa: S603
    parts = [name.split("/") for name in found]
    commits = {first + rest for _, _, first, rest, *_ in (part for part in parts if len(part) > 4)}
    return sorted(commit for commit in commits if len(commit) == 40)


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of the table.

    Args:
        rows: of `dvc.api.exp_show`, the workspace first, HEAD second, baselines before their experiments.
    """
    runs = [row for row in rows if is_experiment(row)]
    if not runs:
        return [NO_RUN]
    head = next((row for row in rows if not is_experiment(row) and row["rev"] != "workspace"), rows[0])
    kept = {id(row): row for row in (rows[0], head, *runs)}.values()
    names = [name_of(row, head) for row in kept]
    width = max(map(len, names))
    lines = [f"{'':<{width}}{heads(0)}", f"{'run':<{width}}{heads(1)}  settings that differ from HEAD's"]
    for row, name in zip(kept, names, strict=True):
        numbers = "".join(f"{number(row.get(key)):>{COLUMN}}" for key in NUMBERS)
        first = f"{name:<{width}}{numbers}  "
        differing = textwrap.wrap(differences(row, head), WIDTH - len(first), break_on_hyphens=False) or [""]
        lines += [(first if place == 0 else " " * len(first)) + text for place, text in enumerate(differing)]
    return [line.rstrip() for line in lines]


def heads(line: int) -> str:
    """One of the two lines of the numbers' heads."""
    return "".join(f"{head[line]:>{COLUMN}}" for head in NUMBERS.values())


def is_experiment(row: Mapping[str, Any]) -> bool:
    """Whether DVC's row is a run, and no commit or the workspace."""
    return str(row["typ"]).startswith("branch") or row.get("State") in ("Queued", "Running", "Failed")


def name_of(row: Mapping[str, Any], head: Mapping[str, Any]) -> str:
    """The run's name, and its state where it is not finished; the name is cut where it is long."""
    name = str(row["Experiment"] or ("HEAD" if row is head else row["rev"]))
    name = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..."
    state = row.get("State")
    return f"{name} ({state.lower()})" if state and state != "Success" else name


def number(value: Any) -> str:
    """A headline number with three digits; a dash where there is none."""
    return f"{value:.3f}" if isinstance(value, int | float) else "-"


def differences(row: Mapping[str, Any], head: Mapping[str, Any]) -> str:
    """`key=value` of each setting that is not as in HEAD."""
    keys = [key for key in row if "." in key and "/" not in key]  # DVC's row has hashes of dependencies too
    changed = {key: row[key] for key in keys if row[key] != head.get(key) and row[key] is not None}
    return " ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in changed.items()
    )


if __name__ == "__main__":
    sys.exit(main())

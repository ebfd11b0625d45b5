"""Sets of settings for a purpose: the files of `settings/`, which hold what differs from params.yaml.

`python -m tools.settings run quick` runs the pipeline with settings/quick.yaml and leaves params.yaml as it was.
`python -m tools.settings apply quick` writes them into params.yaml, whose comments stay.
Both take single settings after the name: `python -m tools.settings run quick joint.loss_weights.mask=4`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from src.core.errors import InputError, invalid, one_line
from src.core.files import atomic_write
from src.core.params_file import leaves, load_params
from tools import parallel
from tools.sessions import Endings, start, wait

PARAMS: Final = Path("params.yaml")
FOLDER: Final = Path("settings")


def main(arguments: Sequence[str]) -> int:
    """Applies the settings, and runs the pipeline with them if asked to; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.settings", description=str(__doc__).splitlines()[0])
    parser.add_argument("command", choices=("apply", "run"))
    parser.add_argument("name", help="a file of settings/, without .yaml")
    parser.add_argument("values", nargs="*", metavar="key=value", help="single settings, over those of the file")
    parser.add_argument(
        "--jobs", type=parallel.stages_at_once, default=1, help="stages at once, where none waits for the other"
    )
    given = parser.parse_args(arguments)
    try:
        before = PARAMS.read_bytes()
        apply(of_file(given.name) | single_settings(given.values))
    except (InputError, OSError) as error:
        print(f"settings: {one_line(error)}", file=sys.stderr)
        return 1
    return 0 if given.command == "apply" else run_and_restore(before, given.jobs)


def of_file(name: str) -> dict[str, Any]:
    """Dotted keys and values of a file in `settings/`; none where `name` is empty.

    Raises:
        InputError: there is no such file.
    """
    if not name:
        return {}
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise InputError(f"{path}: no such file; there are {known or 'none'}")
    return dict(leaves(read(YAML(typ="safe", pure=True), path)))


def apply(settings: Mapping[str, Any]) -> None:
    """Writes settings into params.yaml.

    Args:
        settings: values by dotted key.

    Raises:
        InputError: params.yaml would not be valid; it stays as it was.
    """
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 4096, True  # no line is folded, no quote another
    tree = read(yaml, PARAMS)
    for key, value in settings.items():
        put(tree, key, value)
    with atomic_write(PARAMS) as temporary:
        yaml.dump(tree, temporary)
        load_params(temporary)  # refuses what is not valid before it is in place


def single_settings(values: Sequence[str]) -> dict[str, Any]:
    """Dotted keys and values of texts `key=value`.

    Raises:
        InputError: one is of another form, or its value is not YAML.
    """
    settings = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"expected key=value, found {text!r}")
        settings[key] = parse(YAML(typ="safe", pure=True), value, key)
    return settings


def read(yaml: YAML, path: Path) -> Any:
    """The tree of a YAML file.

    Raises:
        InputError: it is not YAML, or no tree.
    """
    tree = parse(yaml, path.read_text(encoding="utf-8"), path)
    if not isinstance(tree, Mapping):
        raise invalid(path, "sections of settings", type(tree).__name__)
    return tree


def parse(yaml: YAML, text: str, where: str | Path) -> Any:
    """The value that a text stands for.

    Raises:
        InputError: it is not YAML.
    """
    try:
        return yaml.load(text)
    except Exception as error:  # noqa: BLE001 - a broken text may make the YAML reader raise anything
        raise invalid(where, "readable YAML", str(error)) from None


def put(tree: Any, key: str, value: Any) -> None:
    """Sets a dotted key of params.yaml in place.

    Raises:
        InputError: params.yaml has no such key.
    """
    *sections, last = key.split(".")
    branch: Any = tree
    for section in sections:
        branch = branch.get(section) if isinstance(branch, MutableMapping) else None
    if not isinstance(branch, MutableMapping) or last not in branch:
        raise InputError(f"params.yaml has no setting '{key}'")
    if isinstance(value, Mapping):
        value = CommentedMap(value)  # keeps its order
    branch[last] = value


def run_and_restore(before: bytes, jobs: int = 1) -> int:
    """Runs what is out of date; params.yaml is put back however that ends, unless it was edited meanwhile."""
    applied = PARAMS.read_bytes()
    try:
        return parallel.reproduce(jobs) if jobs > 1 else reproduce()
    finally:
        if PARAMS.read_bytes() == applied:
            with atomic_write(PARAMS) as temporary:
                temporary.write_bytes(before)
        else:
            print("settings: params.yaml was edited meanwhile and stays as it is", file=sys.stderr)


def reproduce(*targets: str) -> int:
    """`dvc repro` to its end; a Ctrl-C, a `kill` or a closed terminal ends it soon, when its stage has ended.

    Args:
        targets: the last stages; all stages where there are none.
    """
    with Endings() as endings:
        return wait(start("repro", *targets), endings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

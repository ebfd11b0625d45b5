"""Stage `source`: says where the pictures come from, before `ingest` reads them.

DVC hashes the folder `data.root` as a dependency of `ingest`, so that a changed file there reruns it. Queued and
temporary runs work in a copy of the project somewhere else: there a relative folder would be another folder, or none.
The output of this stage is neither in DVC's cache nor in Git, so such a copy always runs it, and it refuses.
"""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("source: stages run from the project's root as: python -m stages.source")

import os
from pathlib import Path

from src.core import paths
from src.core.data_params import DataParams
from src.core.errors import InputError, invalid
from src.core.files import write_json
from src.core.params import Params
from src.core.stage import run


def check_root(data: DataParams, here: Path, workspace: Path) -> None:
    """Checks that `data.root` means, in the folder `here`, what it means in the main `workspace`.

    Raises:
        InputError: the folder is relative in a copy of the project, or is not there.
    """
    root = Path(data.root)
    needed = data.source != "emoji"
    in_copy = here.resolve() != workspace.resolve()
    if in_copy and not root.is_absolute() and (needed or not root.exists()):
        absolute = (workspace / root).resolve()
        raise InputError(
            f"'data.root' is {data.root}, relative to the project, and this run works in a copy elsewhere; "
            f"write the whole path: -S data.root={absolute}"
        )
    if needed and not (here / root).is_dir():
        raise invalid("params.yaml", "a folder for 'data.root'", data.root)


def main(params: Params) -> None:
    """Writes `data/source.json`: the source's name and folder."""
    here = Path.cwd()
    check_root(params.data, here, Path(os.environ.get("DVC_ROOT", here)))
    write_json(paths.SOURCE, {"source": params.data.source, "root": params.data.root})


if __name__ == "__main__":
    run("source", main)

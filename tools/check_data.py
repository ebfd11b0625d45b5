"""Reads a labelled set without training and says what is in it, good and bad: `make check ROOT=folder`.

`python -m tools.check_data folder` takes the course's four files, or a set in COCO's format, whichever the folder has.
Single settings may follow, as with `tools.settings`: `data.coco.annotations=labels/mine.json`. Nothing is written. The
exit status is 1 where `ingest` would refuse the set.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ruamel.yaml import YAML

from src.core.errors import InputError, one_line
from src.core.params import Params
from src.core.params_file import read_params
from src.sources.coco.layouts import find_layout
from src.sources.coco.source import CocoSource
from src.sources.course import IMAGES
from src.sources.left_out import Findings
from src.sources.opening import findings_of, open_source
from src.sources.splits import root_folder
from tools.set_summary import summarize
from tools.settings import PARAMS, put, read, single_settings

SHOWN = 200  # lines of what is left out; data/left_out.csv has them all


def main(arguments: Sequence[str]) -> int:
    """Prints what the set has; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.check_data", description=str(__doc__).splitlines()[0])
    parser.add_argument("root", help="the folder, as data.root would name it")
    parser.add_argument("values", nargs="*", metavar="key=value", help="single settings, over those of params.yaml")
    given = parser.parse_args(arguments)
    logging.getLogger("src.sources").addHandler(logging.NullHandler())  # what it would say is said below
    try:
        for line in check(settings(Path(given.root), given.values)):
            print("  " * line.startswith("  ") + one_line(line), flush=True)
    except (InputError, OSError, MemoryError) as error:
        print(f"refused: {one_line(error) or 'not enough memory'}")
        return 1
    print("nothing refuses this set")
    return 0


def settings(root: Path, values: Sequence[str]) -> Params:
    """params.yaml for the set in `root`, with single settings over it.

    Raises:
        InputError: params.yaml, or a setting, is not valid.
    """
    tree = read(YAML(typ="safe", pure=True), PARAMS)
    tree["data"] |= {"root": str(root), "source": "course" if (root / IMAGES).is_file() else "coco"}
    for key, value in single_settings(values).items():
        put(tree, key, value)
    return read_params(tree)


def check(params: Params) -> Iterator[str]:
    """Lines about the set, as they become known.

    Raises:
        InputError: `ingest` would refuse the set; the lines so far say what it is.
    """
    # All that can be forgiven is, so that everything is seen; what params.yaml forgives is asked in the end.
    yield from _layout(params)
    source = open_source(replace(params.data, strict=False, largest_left_out=1.0))
    summary, error = summarize(source, params)
    yield from summary.lines()
    findings = findings_of(source)
    if findings is not None:
        yield from _left_out(findings)
    if error is not None:
        raise error
    if isinstance(source, CocoSource):
        source.check_share(params.data.largest_left_out)
    if params.data.strict:
        for _ in open_source(params.data):
            pass


def _layout(params: Params) -> Iterator[str]:
    """Where the files are, and whose the split is."""
    drawn = f"drawn, {100 * params.data.train_fraction:g} % to train"
    if params.data.source == "course":
        yield f"layout: the course's four files in {params.data.root}; split: {drawn}"
        return
    layout = find_layout(root_folder(params.data), params.data.coco)
    yield f"layout: {layout.name}; split: {'its own' if len(layout.parts) > 1 else drawn}"
    for part in layout.parts:
        yield f"  {part.instances} with {part.images}" + (f": {part.split}" if part.split else "")


def _left_out(findings: Findings) -> Iterator[str]:
    """What is mended and left out: counts, then each entry that is wrong."""
    yield from findings.lines() or ["every entry is as it should be"]
    faults = [entry for entry in findings.left_out if entry.fault]
    for entry in faults[:SHOWN]:
        file, index, reason, detail = entry.row
        yield f"  {file}[{index}]: {reason}: {detail}"
    if len(faults) > SHOWN:
        yield f"  and {len(faults) - SHOWN} more"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

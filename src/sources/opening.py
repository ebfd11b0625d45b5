"""One door in front of the three sources of pictures."""

from __future__ import annotations

from src.core.data_params import DataParams
from src.sources.coco.source import CocoSource, open_coco
from src.sources.course import open_course
from src.sources.emoji.source import open_emoji
from src.sources.left_out import Findings
from src.structures.sample import Source


def open_source(params: DataParams) -> Source:
    """Opens the source that `data.source` names.

    Raises:
        InputError: its files are missing or broken.
    """
    return {"emoji": open_emoji, "course": open_course, "coco": open_coco}[params.source](params)


def findings_of(source: Source) -> Findings | None:
    """What a source mended and left out of its set; None for those that take all of it or nothing."""
    return source.findings if isinstance(source, CocoSource) else None

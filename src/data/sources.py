"""One function in front of the three sources of pictures."""

from __future__ import annotations

from src.data.coco import open_coco
from src.data.course import open_course
from src.data.emoji import open_emoji
from src.data.sample import Source
from src.params import DataParams


def open_source(params: DataParams) -> Source:
    """Opens the source that `data.source` names.

    Raises:
        InputError: its files are missing or broken.
    """
    return {"emoji": open_emoji, "course": open_course, "coco": open_coco}[params.source](params)

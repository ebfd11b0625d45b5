"""The assignment's three classes and the background, in label order (section 2 of the assignment)."""

from __future__ import annotations

from typing import Final

CLASS_NAMES: Final = ("background", "vehicle", "person", "animal")
BACKGROUND: Final = 0
OBJECT_CLASSES: Final = CLASS_NAMES[1:]
LABELS: Final = dict(zip(OBJECT_CLASSES, range(1, len(CLASS_NAMES)), strict=True))
NUM_CLASSES: Final = len(CLASS_NAMES)  # with background

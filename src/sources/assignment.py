"""The assignment's three classes in label order (section 2), those of the sources `course` and `emoji`.

They are supercategories of COCO's, so that a set in its format may have them too.
"""

from __future__ import annotations

from typing import Final

from src.structures.classes import Classes

CLASSES: Final = Classes(("vehicle", "person", "animal"))

"""The pipeline's stages, one thin module each, run by DVC as `python -m stages.<name>`."""

from __future__ import annotations

from stages.ancestry import ancestors

STARTED_BY = ancestors()  # asked here, before imports of seconds in which DVC may be killed

"""The pipeline's stages, one thin module each, run by DVC as `python -m stages.<name>`."""

from __future__ import annotations

import os

STARTED_BY = os.getppid()  # asked here, before imports of seconds in which DVC may be killed

"""The pipeline's stages, one thin module each, run by DVC as `python -m stages.<name>`."""

# First of all: one looks whether the packages are there and sets what torch reads when it is imported; the other notes
# who started this process, before imports of seconds in which DVC may be killed.
import src.core.before_torch
import src.core.parent_watchdog  # noqa: F401

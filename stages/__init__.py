"""The pipeline's stages, one thin module each, run by DVC as `python -m stages.<name>`."""

# First of all: it notes who started this process, before imports of seconds in which DVC may be killed.
import src.core.parent_watchdog  # noqa: F401

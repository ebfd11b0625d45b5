"""How much memory a call takes, for the tests that it does not grow with a set."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable


def traced_peak(action: Callable[[], object]) -> int:
    """The most bytes that Python and numpy hold at once for a call, beyond what they held before it."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

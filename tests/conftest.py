"""Every test: shapes in signatures checked at run time, one thread, repeatable hypothesis, a Ctrl-C that is heard."""

import os
import signal

from jaxtyping import install_import_hook

from tests import shapes

# Before anything imports `src`: the hook rewrites modules as they are loaded.
install_import_hook("src", f"{shapes.__name__}.check")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)

# `make test` runs half of the tests in a shell's background, where Ctrl-C is ignored, also by all that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("local", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=100, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How hard the tests of killed stages try."""
    parser.addoption("--kills", type=int, default=2, help="how often each stage is killed at a random moment")

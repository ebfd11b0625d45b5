"""Side-by-side runs against torchvision; no tests."""

import src.core.before_torch  # noqa: F401 - first of all

"""What must be so before anything is imported that takes seconds; `stages` imports this first.

That the packages are there: DVC runs a stage by the `python` of the shell that it was started in. And the variables
that torch reads when it is first imported.
"""

import importlib.util
import os
import sys

if importlib.util.find_spec("torch") is None:
    sys.exit(f"{sys.executable} has no torch; first: source .venv/bin/activate (after `make report` or `make quick`)")

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # what Apple's GPUs lack is computed on the processor
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns of a flag that some steps would not need

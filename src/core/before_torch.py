"""Variables that torch reads when it is first imported; `stages` imports this before anything else does."""

import os

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # what Apple's GPUs lack is computed on the processor
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns of a flag that some steps would not need

"""The training loop, checkpoints and histories."""

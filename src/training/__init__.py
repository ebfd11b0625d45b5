"""Losses, loops, histories and checkpoints."""

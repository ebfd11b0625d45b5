"""Where pictures come from and how they reach the models."""

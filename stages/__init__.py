"""The pipeline's stages, one thin module each, run by DVC as `python -m stages.<name>`."""

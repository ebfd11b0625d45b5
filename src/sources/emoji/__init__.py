"""Scenes composed from vector art."""
